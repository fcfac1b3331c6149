"""Answers each request in a run of its own, with ONNX Runtime for Python.

Reads a job a line from standard input, {"file", "requests"}, and writes a line for each: {"answers"} or {"error"}. A
request holds tensors by the names of the inputs; an answer is a list of outputs, each a tensor or a list of maps:
[[[class, score], ...], ...].
"""

import base64
import json
import sys

import numpy as np
import onnxruntime as ort

dtypes = {
    "float32": np.float32, "float64": np.float64, "float16": np.float16, "bool": np.bool_,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}


def tensor_from(told):
    if told["dtype"] == "string":
        return np.array(told["texts"], dtype=object).reshape(told["dims"])
    return np.frombuffer(base64.b64decode(told["bytes"]), dtype=dtypes[told["dtype"]]).reshape(told["dims"])


def told_of(output):
    if isinstance(output, list):
        return {"maps": [[[key, float(value)] for key, value in row.items()] for row in output]}
    dims = list(output.shape)
    if output.dtype == object or output.dtype.kind in "US":
        return {"dtype": "string", "dims": dims, "texts": [str(text) for text in output.flatten()]}
    return {"dtype": output.dtype.name, "dims": dims, "bytes": base64.b64encode(output.tobytes()).decode()}


def answers_of(file, requests):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    runs = [session.run(None, {name: tensor_from(told) for name, told in request.items()}) for request in requests]
    return [[told_of(output) for output in run] for run in runs]


ort.set_default_logger_severity(4)
for line in sys.stdin:
    job = json.loads(line)
    try:
        print(json.dumps({"answers": answers_of(job["file"], job["requests"])}), flush=True)
    except Exception as error:  # it is the answer to this job; the next one may go well
        print(json.dumps({"error": str(error)}), flush=True)
