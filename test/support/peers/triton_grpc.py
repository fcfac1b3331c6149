"""tritonclient's grpc client: each of its calls that the server answers, and what it makes of refusals."""

import queue
import threading
import time

import grpc
import numpy as np
import tritonclient.grpc as client
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from checks import check, contains, dtypes, equal, run, strings, thrown, url, values

server = client.InferenceServerClient(url)


def tensor(name, array):
    given = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def sums(rows, first=0):
    """The inputs of the model `simple`, and what it answers."""
    a = np.arange(first, first + rows * 16, dtype=np.int32).reshape(rows, 16)
    b = np.full((rows, 16), 3, np.int32)
    return [tensor("INPUT0", a), tensor("INPUT1", b)], a + b, a - b


@check
def it_is_live_and_ready():
    equal(server.is_server_live(headers={"test": "1", "dummy": "2"}), True)
    equal(server.is_server_ready(), True)
    equal(server.is_model_ready("simple"), True)
    equal(server.is_model_ready("no such model"), False)
    equal(server.is_model_ready("simple", "99"), False)


@check
def metadata_tells_names_datatypes_and_shapes():
    about = server.get_server_metadata()
    for extension in ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]:
        contains(list(about.extensions), extension)
    about = server.get_model_metadata("simple")
    equal(about.name, "simple")
    equal([(one.name, one.datatype, list(one.shape)) for one in about.inputs],
          [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])])
    equal([(one.name, one.datatype, list(one.shape)) for one in about.outputs],
          [("OUTPUT0", "INT32", [-1, 16]), ("OUTPUT1", "INT32", [-1, 16])])
    equal(len(about.versions), 1)
    as_json = server.get_model_metadata("simple", as_json=True)
    equal(as_json["inputs"][0]["shape"], ["-1", "16"])


@check
def config_has_no_batch_in_its_dims():
    config = server.get_model_config("simple").config
    equal(config.name, "simple")
    equal(config.max_batch_size > 1, True, "max_batch_size > 1")
    equal([(one.name, one.data_type, list(one.dims)) for one in config.input],
          [("INPUT0", 8, [16]), ("INPUT1", 8, [16])])
    equal([(one.name, one.data_type, list(one.dims)) for one in config.output],
          [("OUTPUT0", 8, [16]), ("OUTPUT1", 8, [16])])


@check
def the_index_lists_the_models():
    index = server.get_model_repository_index()
    states = {one.name: one.state for one in index.models}
    equal(states.get("simple"), "READY")
    equal(states.get("identity_fp32"), "READY")


@check
def statistics_count_rows_and_requests():
    def counts():
        stats = server.get_inference_statistics("simple").model_stats
        equal(len(stats), 1)
        return stats[0].inference_count, stats[0].inference_stats.success.count, stats[0].execution_count

    before = counts()
    for _ in range(5):
        server.infer("simple", sums(3)[0])
    after = counts()
    equal(after[0] - before[0], 15, "inference_count")
    equal(after[1] - before[1], 5, "success")
    equal(1 <= after[2] - before[2] <= 15, True, "execution_count")
    equal(len(server.get_inference_statistics().model_stats) > 10, True, "all models")
    contains(thrown(InferenceServerException, lambda: server.get_inference_statistics("wrong")), "NOT_FOUND")


@check
def shared_memory_and_settings_are_empty():
    equal(len(server.get_system_shared_memory_status().regions), 0)
    equal(len(server.get_cuda_shared_memory_status().regions), 0)
    server.get_trace_settings()
    server.get_log_settings()


@check
def models_are_not_loaded_by_clients():
    for act in [lambda: server.load_model("simple"), lambda: server.unload_model("simple")]:
        contains(thrown(InferenceServerException, act).status(), "UNIMPLEMENTED")
    shared = thrown(InferenceServerException, lambda: server.register_system_shared_memory("a", "/a", 64))
    contains(shared.status(), "UNIMPLEMENTED")


def each_dtype_comes_back(dtype_name):
    dtype = dtypes[dtype_name]
    for rows in [1, 2, 7]:
        given = values(dtype, rows)
        answer = server.infer(f"identity_{dtype_name}", [tensor("INPUT0", given)])
        equal(answer.as_numpy("OUTPUT0"), given)


for name in dtypes:
    def one(name=name):
        each_dtype_comes_back(name)
    one.__name__ = f"{name}_comes_back_bit_for_bit"
    check(one)


@check
def strings_come_back():
    for rows in [1, 2, 7]:
        given = strings(rows)
        equal(server.infer("identity_bytes", [tensor("INPUT0", given)]).as_numpy("OUTPUT0"), given)


@check
def strings_that_onnx_runtime_would_cut_are_refused():
    for bad in [b"a\0b", b"\xff\xfe"]:
        given = np.array([[bad, b"", b"", b""]], np.object_)
        error = thrown(InferenceServerException, lambda: server.infer("identity_bytes", [tensor("INPUT0", given)]))
        contains(error.status(), "INVALID_ARGUMENT")


@check
def several_inputs_and_outputs_of_many_rows():
    for rows in [1, 2, 8]:
        inputs, added, less = sums(rows)
        answer = server.infer("simple", inputs)
        equal(answer.as_numpy("OUTPUT0"), added)
        equal(answer.as_numpy("OUTPUT1"), less)


@check
def only_the_wanted_outputs_come():
    inputs, _, less = sums(2)
    answer = server.infer("simple", inputs, outputs=[client.InferRequestedOutput("OUTPUT1")], request_id="mine")
    equal(answer.as_numpy("OUTPUT0"), None)
    equal(answer.as_numpy("OUTPUT1"), less)
    equal(answer.get_response().id, "mine")
    equal(answer.get_response().model_name, "simple")


@check
def the_order_of_inputs_does_not_matter():
    inputs, added, _ = sums(2)
    equal(server.infer("simple", inputs[::-1]).as_numpy("OUTPUT0"), added)


@check
def numbers_in_texts_are_added():
    a = np.array([[str(i).encode() for i in range(16)]], np.object_)
    b = np.array([[b"1"] * 16], np.object_)
    answer = server.infer("simple_string", [tensor("INPUT0", a), tensor("INPUT1", b)]).as_numpy("OUTPUT0")
    equal([int(text) for text in answer[0]], [i + 1 for i in range(16)])


@check
def a_dynamic_dimension_may_differ_between_requests():
    for length in [1, 5, 64]:
        given = np.linspace(0, 1, 2 * length, dtype=np.float32).reshape(1, length, 2)
        equal(server.infer("sequences", [tensor("x", given)]).as_numpy("centred").shape, given.shape)


@check
def explicit_contents_are_taken():
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(url))
    request = service_pb2.ModelInferRequest(model_name="identity_fp32")
    given = request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    given.contents.fp32_contents.extend([1.5, 2.5, 3.5, 4.5])
    answer = stub.ModelInfer(request)
    equal(np.frombuffer(answer.raw_output_contents[0], np.float32), np.array([1.5, 2.5, 3.5, 4.5], np.float32))
    request.raw_input_contents.append(b"\0" * 16)
    error = thrown(grpc.RpcError, lambda: stub.ModelInfer(request))
    equal(error.code(), grpc.StatusCode.INVALID_ARGUMENT)


def refused(status, *parts, model="identity_fp32", inputs=None, **more):
    error = thrown(InferenceServerException, lambda: server.infer(model, inputs, **more))
    contains(error.status(), status)
    contains(error.message(), *parts)


@check
def what_is_wrong_is_told():
    right = values(np.float32, 1)
    refused("NOT_FOUND", "unknown model", "no such model", model="no such model", inputs=[tensor("INPUT0", right)])
    refused("NOT_FOUND", inputs=[tensor("INPUT0", right)], model_version="99")
    refused("INVALID_ARGUMENT", "INPUT0", inputs=[tensor("INPUT7", right)])
    refused("INVALID_ARGUMENT", "INPUT0", "FP32", "FP64", inputs=[tensor("INPUT0", right.astype(np.float64))])
    refused("INVALID_ARGUMENT", "INPUT0", "5", inputs=[tensor("INPUT0", values(np.float32, 1, 5))])
    refused("INVALID_ARGUMENT", "INPUT0", inputs=[tensor("INPUT0", right.reshape(4))])
    refused("INVALID_ARGUMENT", "INPUT1", model="simple", inputs=sums(1)[0][:1])
    refused("INVALID_ARGUMENT", inputs=[])
    refused("INVALID_ARGUMENT", "OUTPUT7", inputs=[tensor("INPUT0", right)], outputs=[client.InferRequestedOutput("OUTPUT7")])
    refused("INVALID_ARGUMENT", inputs=[tensor("INPUT0", values(np.float32, 0))])
    # And the connection is as good as before.
    equal(server.infer("identity_fp32", [tensor("INPUT0", right)]).as_numpy("OUTPUT0"), right)


@check
def more_rows_than_one_run_takes_are_refused_or_answered():
    given = values(np.float32, 5000)
    try:
        equal(server.infer("identity_fp32", [tensor("INPUT0", given)]).as_numpy("OUTPUT0"), given)
    except InferenceServerException as error:
        contains(error.status(), "INVALID_ARGUMENT")


def leave_no_batch_open(of):
    """What joins a batch that was opened for others, gone by now, is answered sooner than it expects."""
    of.infer("delayed", [tensor("INPUT0", values(np.float32, 1))])


@check
def a_deadline_of_the_client_is_kept():
    given = [tensor("INPUT0", values(np.float32, 1))]
    error = thrown(InferenceServerException, lambda: server.infer("delayed", given, client_timeout=0.1))
    contains(error, "DEADLINE_EXCEEDED")
    equal(server.infer("delayed", given, client_timeout=5).as_numpy("OUTPUT0").shape, (1, 4))


@check
def a_timeout_among_the_parameters_is_kept():
    given = [tensor("INPUT0", values(np.float32, 1))]
    error = thrown(InferenceServerException, lambda: server.infer("delayed", given, timeout=100_000))
    contains(error.status(), "DEADLINE_EXCEEDED")
    leave_no_batch_open(server)


@check
def priorities_and_unknown_parameters_do_no_harm():
    given = values(np.float32, 1)
    more = {"mine": 1, "yours": "a", "theirs": True}
    answer = server.infer("identity_fp32", [tensor("INPUT0", given)], priority=1, parameters=more)
    equal(answer.as_numpy("OUTPUT0"), given)


@check
def a_call_can_be_cancelled():
    came = queue.Queue()
    call = server.async_infer("delayed", [tensor("INPUT0", values(np.float32, 1))], lambda result, error: came.put((result, error)))
    time.sleep(0.05)
    call.cancel()
    answer, error = came.get(timeout=2)
    equal(answer, None)
    contains(error, "CANCELLED")
    leave_no_batch_open(server)


@check
def many_calls_at_once_get_each_its_answer():
    came = queue.Queue()
    for i in range(200):
        server.async_infer("simple", sums(1 + i % 3, i)[0], lambda result, error, i=i: came.put((i, result, error)))
    for _ in range(200):
        i, result, error = came.get(timeout=10)
        equal(error, None)
        equal(result.as_numpy("OUTPUT0"), sums(1 + i % 3, i)[1])


@check
def threads_with_clients_of_their_own():
    faults = []

    def ask(first):
        try:
            with client.InferenceServerClient(url) as own:
                for i in range(50):
                    inputs, added, _ = sums(1, first + i)
                    equal(own.infer("simple", inputs).as_numpy("OUTPUT0"), added)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=ask, args=(i * 1000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(faults, [])


@check
def requests_may_be_compressed():
    given = values(np.float32, 16)
    for algorithm in ["gzip", "deflate"]:
        answer = server.infer("identity_fp32", [tensor("INPUT0", given)], compression_algorithm=algorithm)
        equal(answer.as_numpy("OUTPUT0"), given, algorithm)


@check
def large_tensors_pass():
    given = np.random.default_rng(1).random((1, 50_000, 2), np.float32)
    answer = server.infer("sequences", [tensor("x", given)])
    equal(answer.as_numpy("centred").shape, given.shape)


@check
def messages_over_the_limit_are_refused():
    given = np.zeros((1, 3_000_000, 2), np.float32)
    error = thrown(InferenceServerException, lambda: server.infer("sequences", [tensor("x", given)]))
    contains(error.status(), "RESOURCE_EXHAUSTED")
    it_is_live_and_ready()


@check
def a_stream_answers_each_request():
    came = queue.Queue()
    with client.InferenceServerClient(url) as own:
        own.start_stream(lambda result, error: came.put((result, error)))
        for i in range(50):
            own.async_stream_infer("simple", sums(1, i)[0], request_id=str(i))
        found = {}
        for _ in range(50):
            result, error = came.get(timeout=5)
            equal(error, None)
            found[result.get_response().id] = result.as_numpy("OUTPUT0")
        for i in range(50):
            equal(found[str(i)], sums(1, i)[1])
        own.stop_stream()


@check
def a_mistake_in_a_stream_ends_only_its_request():
    came = queue.Queue()
    with client.InferenceServerClient(url) as own:
        own.start_stream(lambda result, error: came.put((result, error)))
        own.async_stream_infer("no such model", sums(1)[0])
        result, error = came.get(timeout=5)
        equal(result, None)
        contains(error, "unknown model")
        own.async_stream_infer("simple", sums(1)[0], request_id="after")
        result, error = came.get(timeout=5)
        equal(error, None)
        equal(result.get_response().id, "after")
        own.stop_stream()


@check
def a_stream_marks_the_final_answer_when_asked():
    came = queue.Queue()
    with client.InferenceServerClient(url) as own:
        own.start_stream(lambda result, error: came.put((result, error)))
        own.async_stream_infer("simple", sums(1)[0], enable_empty_final_response=True)
        result, error = came.get(timeout=5)
        equal(error, None)
        equal(result.get_response().parameters["triton_final_response"].bool_param, True)
        own.stop_stream()


@check
def a_stream_that_is_cancelled_leaves_the_server_well():
    with client.InferenceServerClient(url) as own:
        own.start_stream(lambda result, error: None)
        for i in range(20):
            own.async_stream_infer("delayed", [tensor("INPUT0", values(np.float32, 1))])
        own.stop_stream(cancel_requests=True)
        leave_no_batch_open(own)
    it_is_live_and_ready()


@check
def a_stream_keeps_its_deadline():
    came = queue.Queue()
    with client.InferenceServerClient(url) as own:
        own.start_stream(lambda result, error: came.put((result, error)), stream_timeout=0.1)
        own.async_stream_infer("delayed", [tensor("INPUT0", values(np.float32, 1))])
        result, error = came.get(timeout=5)
        contains(error, "DEADLINE_EXCEEDED")
        leave_no_batch_open(own)


@check
def keepalive_pings_are_no_offence():
    every = client.KeepAliveOptions(keepalive_time_ms=200, keepalive_timeout_ms=10_000, keepalive_permit_without_calls=True,
                                    http2_max_pings_without_data=0)
    with client.InferenceServerClient(url, keepalive_options=every) as own:
        equal(own.is_server_live(), True)
        time.sleep(1.2)
        equal(own.is_server_live(), True)


@check
def a_full_queue_is_unavailable():
    came = queue.Queue()
    for _ in range(64):
        server.async_infer("narrow", [tensor("INPUT0", values(np.float32, 1))], lambda result, error: came.put((result, error)))
    results = [came.get(timeout=10) for _ in range(64)]
    refusals = [error for result, error in results if error is not None]
    equal(0 < len(refusals) < 64, True, f"some of 64 are refused, and {len(refusals)} are: so")
    for error in refusals:
        contains(error.status(), "UNAVAILABLE")


@check
def health_as_kubernetes_asks_for_it():
    channel = grpc.insecure_channel(url)
    ask = channel.unary_unary("/grpc.health.v1.Health/Check")
    equal(ask(b""), b"\x08\x01")
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    equal(next(watch), b"\x08\x01")
    watch.cancel()


@check
def unknown_methods_are_unimplemented():
    channel = grpc.insecure_channel(url)
    for method in ["/inference.GRPCInferenceService/Nothing", "/no.such.Service/Call"]:
        error = thrown(grpc.RpcError, lambda: channel.unary_unary(method)(b""))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@check
def what_is_no_message_is_refused():
    channel = grpc.insecure_channel(url)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    error = thrown(grpc.RpcError, lambda: call(b"\xff\xff\xff\xff"))
    equal(error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL), True, str(error.code()))


run()
