"""tritonclient's http.aio client (on aiohttp)."""

import asyncio

import numpy as np
import tritonclient.http.aio as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from checks import check, contains, dtypes, equal, run, strings, thrown_by, url, values


def tensor(name, array, binary=True):
    given = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def sums(rows, first=0):
    a = np.arange(first, first + rows * 16, dtype=np.int32).reshape(rows, 16)
    b = np.full((rows, 16), 3, np.int32)
    return [tensor("INPUT0", a), tensor("INPUT1", b)], a + b


@check
async def each_call_that_is_served():
    async with client.InferenceServerClient(url) as server:
        equal(await server.is_server_live(), True)
        equal(await server.is_server_ready(), True)
        equal(await server.is_model_ready("simple"), True)
        equal((await server.get_model_metadata("simple"))["name"], "simple")
        equal((await server.get_model_config("simple"))["name"], "simple")
        contains([one["name"] for one in await server.get_model_repository_index()], "simple")
        equal((await server.get_inference_statistics("simple"))["model_stats"][0]["name"], "simple")
        await server.get_server_metadata()
        await server.get_trace_settings()
        await server.get_log_settings()
        equal(await server.get_system_shared_memory_status(), [])
        equal(await server.get_cuda_shared_memory_status(), [])
        for call in [server.load_model("simple"), server.unload_model("simple")]:
            await thrown_by(InferenceServerException, call)


@check
async def each_dtype_comes_back_bit_for_bit():
    async with client.InferenceServerClient(url) as server:
        for name, dtype in dtypes.items():
            given = values(dtype, 3)
            answer = await server.infer(f"identity_{name}", [tensor("INPUT0", given, name == "fp16")])
            equal(answer.as_numpy("OUTPUT0"), given, name)
        given = strings(3)
        equal((await server.infer("identity_bytes", [tensor("INPUT0", given)])).as_numpy("OUTPUT0"), given)


@check
async def many_calls_at_once_get_each_its_answer():
    async with client.InferenceServerClient(url, conn_limit=32) as server:
        async def ask(i):
            inputs, added = sums(1 + i % 4, i)
            equal((await server.infer("simple", inputs)).as_numpy("OUTPUT0"), added)
        await asyncio.gather(*[ask(i) for i in range(300)])


@check
async def compression_both_ways():
    async with client.InferenceServerClient(url) as server:
        given = values(np.float32, 200)
        for request in [None, "gzip", "deflate"]:
            for response in [None, "gzip", "deflate"]:
                answer = await server.infer("identity_fp32", [tensor("INPUT0", given)],
                                            request_compression_algorithm=request,
                                            response_compression_algorithm=response)
                equal(answer.as_numpy("OUTPUT0"), given, f"{request} → {response}")


@check
async def what_is_wrong_is_told():
    async with client.InferenceServerClient(url) as server:
        right = values(np.float32, 1)
        error = await thrown_by(InferenceServerException, server.infer("nothing", [tensor("INPUT0", right)]))
        equal(error.status(), "404")
        wrong = [tensor("INPUT0", right.astype(np.float64))]
        error = await thrown_by(InferenceServerException, server.infer("identity_fp32", wrong))
        equal(error.status(), "400")
        contains(error.message(), "INPUT0", "FP32", "FP64")


@check
async def cancelled_tasks_do_no_harm():
    async with client.InferenceServerClient(url) as server:
        task = asyncio.create_task(server.infer("delayed", [tensor("INPUT0", values(np.float32, 1))]))
        await asyncio.sleep(0.05)
        task.cancel()
        await thrown_by(asyncio.CancelledError, task)
        equal(await server.is_server_live(), True)


run()
