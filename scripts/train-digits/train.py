"""Trains the shipped digit classifier and writes it as ONNX, with the samples it never saw.

Data: the 8x8 handwritten digits that scikit-learn ships (see README.md for source and licence). A stratified fifth is
held out before anything else happens and serves for the final accuracy alone. The rest is augmented by shifts of one
pixel and learnt by a multilayer perceptron, small enough that the server is what gets measured.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums in one order: the same file on every run

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 20240229
LEAST_ACCURACY = 0.97
TARGET = Path(__file__).resolve().parents[2] / "config" / "models" / "digits"


def shifted(pixels: np.ndarray) -> np.ndarray:
    """Every image and its four neighbours one pixel up, down, left and right. [n,64] -> [5n,64]."""
    images = pixels.reshape(-1, 8, 8)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return np.concatenate([padded[:, y : y + 8, x : x + 8] for y, x in moves]).reshape(-1, 64)


def train(pixels: np.ndarray, labels: np.ndarray) -> MLPClassifier:
    network = MLPClassifier((96, 48), alpha=1e-3, learning_rate_init=2e-3, max_iter=120, random_state=SEED)
    return network.fit(shifted(pixels) / 16, np.tile(labels, 5))


def to_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """pixels float32 [N,64] in 0..16 -> probabilities float32 [N,10]."""
    weights = [numpy_helper.from_array(w.astype(np.float32), f"w{i}") for i, w in enumerate(network.coefs_)]
    biases = [numpy_helper.from_array(b.astype(np.float32), f"b{i}") for i, b in enumerate(network.intercepts_)]
    scale = numpy_helper.from_array(np.array(16, np.float32), "scale")
    nodes = [helper.make_node("Div", ["pixels", "scale"], ["h0"])]
    last = len(weights) - 1
    for i in range(len(weights)):
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], [f"g{i}"]))
        if i < last:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"g{last}"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [*weights, *biases, scale],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_held_out(path: Path, pixels: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> None:
    """One sample a line, so that a change shows as one."""
    head = {
        "input": {"name": "pixels", "dtype": "float32", "shape": [64]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": [10]},
        "source": "UCI Optical Recognition of Handwritten Digits, as shipped with scikit-learn; CC BY 4.0",
    }
    rows = (
        json.dumps({"label": int(l), "predicted": int(p), "pixels": x.astype(int).tolist()}, separators=(",", ":"))
        for x, l, p in zip(pixels, labels, predicted)
    )
    path.write_text(json.dumps(head)[:-1] + ', "samples": [\n' + ",\n".join(rows) + "\n]}\n")


def main() -> int:
    pixels, labels = load_digits(return_X_y=True)
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        pixels, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    network = train(seen, seen_labels)
    model = to_onnx(network)
    TARGET.mkdir(parents=True, exist_ok=True)
    onnx.save(model, TARGET / "model.onnx")

    session = onnxruntime.InferenceSession(TARGET / "model.onnx")
    (probabilities,) = session.run(None, {"pixels": held_out.astype(np.float32)})
    difference = float(np.abs(probabilities - network.predict_proba(held_out / 16)).max())
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == held_out_labels).mean())
    write_held_out(TARGET / "held-out.json", held_out, held_out_labels, predicted)
    print(f"held-out accuracy {accuracy:.4f} of {len(held_out)}; exported network differs by at most {difference:.1e}")
    return 0 if accuracy >= LEAST_ACCURACY and difference < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
