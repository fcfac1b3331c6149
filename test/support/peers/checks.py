"""The promises that a program of this folder checks, and what it prints of each: a line of JSON.

The program is called with a JSON object of what it should know: `url` (host:port of an open listener).
"""

import asyncio
import inspect
import json
import sys
import time
import traceback

import numpy as np

told = json.loads(sys.argv[1])
url = told["url"]
_checks = []

# A dtype of each datatype, by the name of the model that gives it back unchanged.
dtypes = {
    "bool": bool,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "fp16": np.float16,
    "fp32": np.float32,
    "fp64": np.float64,
}
texts = ["", "a", "zwölf", "日本語", "x" * 300, "🙂", "two words", "\t"]


def values(dtype, rows, columns=4):
    """Rows of a dtype with its least and largest values."""
    count = rows * columns
    if dtype is bool:
        flat = np.arange(count) % 3 == 0
    elif np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        flat = np.resize(np.array([limits.min, limits.max, 0, 1, 2], dtype), count)
    else:
        limits = np.finfo(dtype)
        flat = np.resize(np.array([limits.min, limits.max, 0, -0.0, limits.tiny, 0.1, 1 / 3], dtype), count)
    return flat.reshape(rows, columns).astype(dtype)


def strings(rows, columns=4):
    return np.resize(np.array([text.encode() for text in texts], np.object_), (rows, columns))


def check(act):
    """Its name is the promise."""
    _checks.append(act)
    return act


def equal(found, wanted, what="answer"):
    if isinstance(wanted, np.ndarray):
        found = np.asarray(found)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise AssertionError(f"{what}: {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}")
        isSame = list(found.flat) == list(wanted.flat) if wanted.dtype == np.object_ else found.tobytes() == wanted.tobytes()
        if not isSame:
            raise AssertionError(f"{what}: {found.tolist()}, not {wanted.tolist()}"[:400])
    elif found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}"[:400])


def contains(text, *parts):
    for part in parts:
        if part not in str(text):
            raise AssertionError(f"{part!r} is not in {text!r}"[:400])


def thrown(kind, act):
    """The exception of this kind that `act` raises."""
    try:
        given = act()
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised, and {given!r} came"[:400])


async def thrown_by(kind, awaitable):
    try:
        given = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised, and {given!r} came"[:400])


def run(limit_seconds=20):
    failed = False
    for act in _checks:
        begun = time.monotonic()
        why = None
        try:
            if inspect.iscoroutinefunction(act):
                asyncio.run(asyncio.wait_for(act(), limit_seconds))
            else:
                act()
        except BaseException as error:  # noqa: B902: what a client throws at us is part of the result
            at = traceback.extract_tb(error.__traceback__)
            ours = [frame.lineno for frame in at if frame.filename == inspect.getsourcefile(act)]
            why = f"{type(error).__name__}: {error} (line {ours[-1] if ours else '?'})"
        failed = failed or why is not None
        seconds = round(time.monotonic() - begun, 3)
        print(json.dumps({"name": act.__name__.replace("_", " "), "why": why, "seconds": seconds}), flush=True)
    sys.stdout.flush()
    # Some clients leave threads behind that would keep the process.
    import os

    os._exit(1 if failed else 0)
