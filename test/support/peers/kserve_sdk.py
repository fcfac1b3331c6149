"""The clients of KServe's SDK, for gRPC and REST."""

import logging

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from checks import check, contains, dtypes, equal, run, thrown_by, url, values

logging.disable(logging.CRITICAL)
datatypes = {name: name.upper() for name in dtypes}
base = f"http://{url}"


def request(model, array, datatype, binary):
    given = InferInput("INPUT0", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [given])


def rest():
    return InferenceRESTClient(RESTConfig(protocol="v2"))


@check
async def grpc_health():
    async with InferenceGRPCClient(url) as client:
        equal(await client.is_server_live(), True)
        equal(await client.is_server_ready(), True)
        equal(await client.is_model_ready("simple"), True)


@check
async def grpc_each_dtype_raw_and_as_contents():
    async with InferenceGRPCClient(url) as client:
        for name, datatype in datatypes.items():
            given = values(dtypes[name], 2)
            for binary in [True, False]:
                # FP16 has no field in contents.
                if name == "fp16" and not binary:
                    continue
                answer = await client.infer(request(f"identity_{name}", given, datatype, binary))
                equal(answer.outputs[0].as_numpy(), given, f"{name}, binary {binary}")


@check
async def grpc_errors():
    async with InferenceGRPCClient(url, timeout=5) as client:
        given = values(np.float32, 1)
        error = await thrown_by(grpc.RpcError, client.infer(request("nothing", given, "FP32", True)))
        equal(error.code(), grpc.StatusCode.NOT_FOUND)
        wrong = request("identity_fp32", given.astype(np.float64), "FP64", True)
        error = await thrown_by(grpc.RpcError, client.infer(wrong))
        equal(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        contains(error.details(), "FP32", "FP64")
        error = await thrown_by(grpc.RpcError, client.infer(request("delayed", given, "FP32", True), timeout=0.1))
        equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


@check
async def rest_health():
    async with rest() as client:
        equal(await client.is_server_live(base), True)
        equal(await client.is_server_ready(base), True)
        equal(await client.is_model_ready(base, "simple"), True)
        equal(await client.is_model_ready(base, "nothing"), False)


@check
async def rest_each_dtype_in_json_and_binary():
    async with rest() as client:
        for name, datatype in datatypes.items():
            given = values(dtypes[name], 2)
            # An answer to a binary request comes in JSON, unless it asks otherwise: FP16 has no form there.
            for binary in [True, False] if name != "fp16" else []:
                answer = await client.infer(base, request(f"identity_{name}", given, datatype, binary),
                                            model_name=f"identity_{name}")
                equal(answer.outputs[0].as_numpy(), given, f"{name}, binary {binary}")


@check
async def rest_plain_json():
    async with rest() as client:
        for data in [[1.5, 2.5, 3.5, 4.5], [[1.5, 2.5, 3.5, 4.5]]]:
            body = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": data}]}
            answer = await client.infer(base, body, model_name="identity_fp32")
            equal(answer.outputs[0].as_numpy(), np.array([[1.5, 2.5, 3.5, 4.5]], np.float32))


@check
async def rest_errors():
    async with rest() as client:
        given = values(np.float32, 1)
        error = await thrown_by(httpx.HTTPStatusError,
                                client.infer(base, request("nothing", given, "FP32", False), model_name="nothing"))
        equal(error.response.status_code, 404)
        wrong = request("identity_fp32", given.astype(np.float64), "FP64", True)
        error = await thrown_by(httpx.HTTPStatusError, client.infer(base, wrong, model_name="identity_fp32"))
        equal(error.response.status_code, 400)
        contains(error, "FP32", "FP64")


run()
