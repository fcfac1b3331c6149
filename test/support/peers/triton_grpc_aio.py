"""tritonclient's grpc.aio client."""

import asyncio

import numpy as np
import tritonclient.grpc.aio as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from checks import check, contains, dtypes, equal, run, strings, thrown_by, url, values


def tensor(name, array):
    given = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def sums(rows, first=0):
    a = np.arange(first, first + rows * 16, dtype=np.int32).reshape(rows, 16)
    b = np.full((rows, 16), 3, np.int32)
    return [tensor("INPUT0", a), tensor("INPUT1", b)], a + b, a - b


@check
async def each_call_that_is_served():
    async with client.InferenceServerClient(url) as server:
        equal(await server.is_server_live(), True)
        equal(await server.is_server_ready(), True)
        equal(await server.is_model_ready("simple"), True)
        equal((await server.get_server_metadata(as_json=True))["name"] != "", True)
        equal((await server.get_model_metadata("simple")).name, "simple")
        equal((await server.get_model_config("simple")).config.name, "simple")
        contains([one.name for one in (await server.get_model_repository_index()).models], "simple")
        equal((await server.get_inference_statistics("simple")).model_stats[0].name, "simple")
        await server.get_trace_settings()
        await server.get_log_settings()
        equal(len((await server.get_system_shared_memory_status()).regions), 0)
        equal(len((await server.get_cuda_shared_memory_status()).regions), 0)
        for call in [server.load_model("simple"), server.unload_model("simple")]:
            contains((await thrown_by(InferenceServerException, call)).status(), "UNIMPLEMENTED")


@check
async def each_dtype_comes_back_bit_for_bit():
    async with client.InferenceServerClient(url) as server:
        for name, dtype in dtypes.items():
            given = values(dtype, 3)
            equal((await server.infer(f"identity_{name}", [tensor("INPUT0", given)])).as_numpy("OUTPUT0"), given, name)
        given = strings(3)
        equal((await server.infer("identity_bytes", [tensor("INPUT0", given)])).as_numpy("OUTPUT0"), given)


@check
async def many_calls_at_once_get_each_its_answer():
    async with client.InferenceServerClient(url) as server:
        async def ask(i):
            inputs, added, less = sums(1 + i % 4, i)
            answer = await server.infer("simple", inputs, request_id=str(i))
            equal(answer.as_numpy("OUTPUT0"), added)
            equal(answer.as_numpy("OUTPUT1"), less)
            equal(answer.get_response().id, str(i))
        await asyncio.gather(*[ask(i) for i in range(300)])


@check
async def what_is_wrong_is_told():
    async with client.InferenceServerClient(url) as server:
        right = values(np.float32, 1)
        error = await thrown_by(InferenceServerException, server.infer("nothing", [tensor("INPUT0", right)]))
        contains(error.status(), "NOT_FOUND")
        wrong = [tensor("INPUT0", right.astype(np.float64))]
        error = await thrown_by(InferenceServerException, server.infer("identity_fp32", wrong))
        contains(error.status(), "INVALID_ARGUMENT")
        contains(error.message(), "INPUT0", "FP32", "FP64")


@check
async def deadlines_and_cancelled_tasks():
    async with client.InferenceServerClient(url) as server:
        given = [tensor("INPUT0", values(np.float32, 1))]
        error = await thrown_by(InferenceServerException, server.infer("delayed", given, client_timeout=0.1))
        contains(error.status(), "DEADLINE_EXCEEDED")
        task = asyncio.create_task(server.infer("delayed", given))
        await asyncio.sleep(0.05)
        task.cancel()
        await thrown_by(asyncio.CancelledError, task)
        equal((await server.infer("delayed", given)).as_numpy("OUTPUT0").shape, (1, 4))


@check
async def requests_may_be_compressed():
    async with client.InferenceServerClient(url) as server:
        given = values(np.float32, 16)
        for algorithm in ["gzip", "deflate"]:
            answer = await server.infer("identity_fp32", [tensor("INPUT0", given)], compression_algorithm=algorithm)
            equal(answer.as_numpy("OUTPUT0"), given, algorithm)


@check
async def a_stream_answers_each_request():
    async with client.InferenceServerClient(url) as server:
        async def requests():
            for i in range(50):
                yield {"model_name": "simple", "inputs": sums(1, i)[0], "request_id": str(i)}
        found = {}
        async for result, error in server.stream_infer(requests()):
            equal(error, None)
            found[result.get_response().id] = result.as_numpy("OUTPUT0")
        equal(sorted(found, key=int), [str(i) for i in range(50)])
        for i in range(50):
            equal(found[str(i)], sums(1, i)[1])


@check
async def a_stream_can_be_cancelled():
    async with client.InferenceServerClient(url) as server:
        async def requests():
            yield {"model_name": "delayed", "inputs": [tensor("INPUT0", values(np.float32, 1))]}
            await asyncio.sleep(30)
        stream = server.stream_infer(requests())
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.05)
        equal(stream.cancel(), True)
        try:
            await reading
        except (asyncio.CancelledError, InferenceServerException, StopAsyncIteration):
            pass
        equal(await server.is_server_live(), True)


run()
