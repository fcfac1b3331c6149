"""tritonclient's http client (on gevent)."""

import json
import socket

import numpy as np
import tritonclient.http as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from checks import check, contains, dtypes, equal, run, strings, texts, thrown, url, values

server = client.InferenceServerClient(url, concurrency=8)


def tensor(name, array, binary=True):
    given = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def wanted(name, binary=True):
    return client.InferRequestedOutput(name, binary_data=binary)


def sums(rows, first=0, binary=True):
    a = np.arange(first, first + rows * 16, dtype=np.int32).reshape(rows, 16)
    b = np.full((rows, 16), 3, np.int32)
    return [tensor("INPUT0", a, binary), tensor("INPUT1", b, binary)], a + b, a - b


@check
def it_is_live_and_ready():
    equal(server.is_server_live(query_params={"test_1": 1, "test_2": 2}), True)
    equal(server.is_server_ready(), True)
    equal(server.is_model_ready("simple"), True)
    equal(server.is_model_ready("nothing"), False)


@check
def metadata_tells_names_datatypes_and_shapes():
    about = server.get_server_metadata()
    for extension in ["binary_tensor_data", "model_configuration", "statistics"]:
        contains(about["extensions"], extension)
    about = server.get_model_metadata("simple", query_params={"test_1": 1})
    equal(about["inputs"], [{"name": f"INPUT{i}", "datatype": "INT32", "shape": [-1, 16]} for i in [0, 1]])
    equal(about["outputs"], [{"name": f"OUTPUT{i}", "datatype": "INT32", "shape": [-1, 16]} for i in [0, 1]])
    version = about["versions"][0]
    equal(server.get_model_metadata("simple", version)["name"], "simple")
    contains(thrown(InferenceServerException, lambda: server.get_model_metadata("wrong_model_name")),
             "unknown model", "wrong_model_name")


@check
def config_and_index_and_statistics():
    config = server.get_model_config("simple")
    equal(config["name"], "simple")
    equal(config["input"][0]["data_type"], "TYPE_INT32")
    equal([int(size) for size in config["input"][0]["dims"]], [16])
    contains([one["name"] for one in server.get_model_repository_index() if one["state"] == "READY"], "simple")
    before = server.get_inference_statistics("simple")["model_stats"][0]
    server.infer("simple", sums(3)[0])
    after = server.get_inference_statistics("simple")["model_stats"][0]
    equal(int(after["inference_count"]) - int(before["inference_count"]), 3, "inference_count")
    equal(len(server.get_inference_statistics()["model_stats"]) > 10, True, "all models")


@check
def statistics_have_each_answer_whichever_worker_gives_them():
    def counted():
        with client.InferenceServerClient(url) as fresh:
            return int(fresh.get_inference_statistics("simple")["model_stats"][0]["inference_count"])

    before = counted()
    for i in range(1, 13):
        with client.InferenceServerClient(url) as fresh:
            fresh.infer("simple", sums(3)[0])
        equal(counted() - before, 3 * i)


@check
def shared_memory_and_settings_are_empty():
    equal(server.get_system_shared_memory_status(), [])
    equal(server.get_cuda_shared_memory_status(), [])
    server.get_trace_settings()
    server.get_log_settings()


@check
def models_are_not_loaded_by_clients():
    for act in [lambda: server.load_model("simple"), lambda: server.unload_model("simple"),
                lambda: server.register_system_shared_memory("a", "/a", 64)]:
        thrown(InferenceServerException, act)


for name in dtypes:
    def one(name=name):
        for rows in [1, 3]:
            given = values(dtypes[name], rows)
            for binary in [True, False]:
                # FP16 has no form in JSON.
                if name == "fp16" and not binary:
                    continue
                for binary_out in [True, False]:
                    if name == "fp16" and not binary_out:
                        continue
                    answer = server.infer(f"identity_{name}", [tensor("INPUT0", given, binary)],
                                          outputs=[wanted("OUTPUT0", binary_out)])
                    equal(answer.as_numpy("OUTPUT0"), given, f"binary {binary} → {binary_out}")
    one.__name__ = f"{name}_comes_back_bit_for_bit_in_json_and_binary"
    check(one)


@check
def strings_come_back_in_json_and_binary():
    given = strings(3)
    for binary in [True, False]:
        answer = server.infer("identity_bytes", [tensor("INPUT0", given, binary)], outputs=[wanted("OUTPUT0", True)])
        equal(answer.as_numpy("OUTPUT0"), given, f"binary {binary}")
    answer = server.infer("identity_bytes", [tensor("INPUT0", given, False)], outputs=[wanted("OUTPUT0", False)])
    equal([one.encode() if isinstance(one, str) else one for one in answer.as_numpy("OUTPUT0").flat], list(given.flat))
    del texts[8:]


@check
def several_inputs_and_outputs_of_many_rows():
    for rows in [1, 2, 8]:
        for binary in [True, False]:
            inputs, added, less = sums(rows, binary=binary)
            answer = server.infer("simple", inputs)
            equal(answer.as_numpy("OUTPUT0"), added)
            equal(answer.as_numpy("OUTPUT1"), less)


@check
def outputs_may_be_mixed():
    inputs, added, less = sums(2)
    answer = server.infer("simple", inputs, outputs=[wanted("OUTPUT0", False), wanted("OUTPUT1", True)], request_id="mine")
    equal(answer.as_numpy("OUTPUT0"), added)
    equal(answer.as_numpy("OUTPUT1"), less)
    equal(answer.get_response()["id"], "mine")
    contains(json.dumps(answer.get_output("OUTPUT0")), '"data"')


@check
def inputs_may_be_mixed():
    a = np.arange(16, dtype=np.int32).reshape(1, 16)
    inputs = [tensor("INPUT0", a, True), tensor("INPUT1", a, False)]
    equal(server.infer("simple", inputs).as_numpy("OUTPUT0"), a + a)


@check
def what_is_wrong_is_told():
    right = values(np.float32, 1)

    def refused(status, *parts, model="identity_fp32", inputs=None, **more):
        error = thrown(InferenceServerException, lambda: server.infer(model, inputs, **more))
        equal(error.status(), status)
        contains(error.message(), *parts)

    for binary in [True, False]:
        refused("404", "nothing", model="nothing", inputs=[tensor("INPUT0", right, binary)])
        refused("404", inputs=[tensor("INPUT0", right, binary)], model_version="99")
        refused("400", "INPUT0", inputs=[tensor("INPUT7", right, binary)])
        refused("400", "INPUT0", "FP32", "FP64", inputs=[tensor("INPUT0", right.astype(np.float64), binary)])
        refused("400", "INPUT0", inputs=[tensor("INPUT0", values(np.float32, 1, 5), binary)])
        refused("400", "INPUT1", model="simple", inputs=sums(1)[0][:1])
    refused("400", "OUTPUT7", inputs=[tensor("INPUT0", right)], outputs=[wanted("OUTPUT7")])
    equal(server.infer("identity_fp32", [tensor("INPUT0", right)]).as_numpy("OUTPUT0"), right)


@check
def compression_both_ways():
    given = values(np.float32, 200)
    for request in [None, "gzip", "deflate"]:
        for response in [None, "gzip", "deflate"]:
            for binary in [True, False]:
                answer = server.infer("identity_fp32", [tensor("INPUT0", given, binary)],
                                      outputs=[wanted("OUTPUT0", binary)],
                                      request_compression_algorithm=request, response_compression_algorithm=response)
                equal(answer.as_numpy("OUTPUT0"), given, f"{request} → {response}, binary {binary}")


@check
def many_calls_at_once_get_each_its_answer():
    calls = [(i, server.async_infer("simple", sums(1 + i % 3, i)[0])) for i in range(100)]
    for i, call in calls:
        equal(call.get_result(timeout=10).as_numpy("OUTPUT0"), sums(1 + i % 3, i)[1])


@check
def a_timeout_among_the_parameters_is_kept():
    error = thrown(InferenceServerException,
                   lambda: server.infer("delayed", [tensor("INPUT0", values(np.float32, 1))], timeout=100_000))
    equal(error.status(), "504")
    # What joins a batch that was opened for others, gone by now, is answered sooner than it expects.
    server.infer("delayed", [tensor("INPUT0", values(np.float32, 1))])


@check
def a_client_that_gives_up_does_no_harm():
    hasty = client.InferenceServerClient(url, network_timeout=0.1)
    thrown((socket.timeout, InferenceServerException),
           lambda: hasty.infer("delayed", [tensor("INPUT0", values(np.float32, 1))]))
    it_is_live_and_ready()


@check
def priorities_and_unknown_parameters_do_no_harm():
    given = values(np.float32, 1)
    answer = server.infer("identity_fp32", [tensor("INPUT0", given)], priority=1, parameters={"mine": 1, "b": True})
    equal(answer.as_numpy("OUTPUT0"), given)


@check
def a_full_queue_is_unavailable():
    crowd = client.InferenceServerClient(url, concurrency=32)
    calls = [crowd.async_infer("narrow", [tensor("INPUT0", values(np.float32, 1))]) for _ in range(64)]
    refusals = []
    for call in calls:
        try:
            call.get_result(timeout=10)
        except InferenceServerException as error:
            refusals.append(error.status())
    equal(0 < len(refusals) < 64, True, f"some of 64 are refused, and {len(refusals)} are: so")
    equal(set(refusals), {"503"})


@check
def a_body_over_the_limit_is_refused():
    given = np.zeros((1, 3_000_000, 2), np.float32)
    try:
        server.infer("sequences", [tensor("x", given)])
    except InferenceServerException as error:
        equal(error.status(), "413")
    except OSError:
        pass  # The server closed the connection while the client was still sending.
    else:
        raise AssertionError("24 MB were taken")
    it_is_live_and_ready()


@check
def bodies_can_be_made_and_read_apart():
    given = values(np.float32, 2)
    body, length = client.InferenceServerClient.generate_request_body([tensor("INPUT0", given)])
    import urllib.request

    request = urllib.request.Request(f"http://{url}/v2/models/identity_fp32/infer", body,
                                     {"Inference-Header-Content-Length": str(length)})
    with urllib.request.urlopen(request) as response:
        header = int(response.headers["Inference-Header-Content-Length"])
        answer = client.InferenceServerClient.parse_response_body(response.read(), header_length=header)
    equal(answer.as_numpy("OUTPUT0"), given)


run()
