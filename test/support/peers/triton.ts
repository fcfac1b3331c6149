// Triton's own examples for clients, which check themselves, and tests of its QA that know nothing of Triton's inside.
// They are read from checkouts of its repositories, whose place the command line tells: nothing of them is kept here.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../folder.js';
import { TestProcess } from '../processes.js';
import { failed, known, type Outcome, passed, skipped } from './outcome.js';
import { python, pythonEnv, whyNoPythonClients } from './python-clients.js';

const noState = 'models with a state of each sequence are not served';
const noLoading = 'clients load no models here';
const cutTexts = 'texts with a NUL are refused: ONNX Runtime for Node would cut them';
const noSharedMemory = 'there is no shared memory between clients and the server';

/** With why one is known to fail; null: it passes. */
const examples: Readonly<Record<string, string | null>> = {
  simple_grpc_infer_client: null,
  simple_grpc_async_infer_client: null,
  simple_grpc_aio_infer_client: null,
  simple_grpc_string_infer_client: cutTexts,
  simple_grpc_health_metadata: null,
  simple_grpc_keepalive_client: null,
  simple_grpc_custom_args_client: null,
  grpc_explicit_int_content_client: null,
  grpc_explicit_int8_content_client: null,
  grpc_explicit_byte_content_client: null,
  simple_http_infer_client: null,
  simple_http_async_infer_client: null,
  simple_http_aio_infer_client: null,
  simple_http_string_infer_client: cutTexts,
  simple_http_health_metadata: null,
  simple_grpc_model_control: noLoading,
  simple_http_model_control: noLoading,
  simple_grpc_sequence_sync_infer_client: noState,
  simple_http_sequence_sync_infer_client: noState,
  simple_grpc_sequence_stream_infer_client: noState,
  simple_grpc_aio_sequence_stream_infer_client: noState,
  reuse_infer_objects_client: noSharedMemory,
  simple_grpc_shm_client: noSharedMemory,
  simple_http_shm_client: noSharedMemory,
};

const missing = (repository: string, option: string): string =>
  `clone https://github.com/triton-inference-server/${repository} and name its folder: --${option} FOLDER`;

/** Their text with the name of our server where they compare it with Triton's. */
const asOurs = (text: string, name: string): string =>
  text.replace(/((?:metadata\.name|metadata\["name"\]|ret\.name|ret\["name"\])\s*(?:==|,)\s*)"triton"/g, `$1"${name}"`);

async function nameOfServer(url: string): Promise<string> {
  const about = (await (await fetch(`http://${url}/v2`)).json()) as { readonly name: string };
  return about.name;
}

export async function exampleOutcomes(url: string, checkout: string | undefined): Promise<readonly Outcome[]> {
  if (checkout === undefined) return skipped(missing('client', 'triton-client'));
  const without = whyNoPythonClients();
  if (without !== null) return skipped(without);
  const folder = temporaryFolder();
  const name = await nameOfServer(url);
  const outcomes: Outcome[] = [];
  for (const [example, difference] of Object.entries(examples)) {
    const from = join(checkout, 'src/python/examples', `${example}.py`);
    const to = join(folder, `${example}.py`);
    writeFileSync(to, asOurs(readFileSync(from, 'utf8'), name));
    const program = new TestProcess(python, [to, '-u', url], { env: pythonEnv() });
    const { code, signal } = await program.ended(60_000);
    // Some end with 0 when they could not connect.
    const isGood = code === 0 && !/FAILED|context creation failed/.test(program.output);
    const outcome = isGood
      ? passed(example)
      : failed(example, `it ended with ${code ?? signal}: ${program.output.slice(-300)}`);
    outcomes.push(known(outcome, difference === null ? {} : { [example]: difference }));
  }
  return outcomes;
}

const noRawBinary = 'a body without any JSON, whose shape the server would have to guess, is refused';
const words = "it asks for Triton's words";
const itsModels = 'it counts the models of its own repository';

interface QaFile {
  readonly path: string;
  readonly tests: Readonly<Record<string, string | null>>;
}

const calls = [
  'is_server_live',
  'is_server_ready',
  'is_model_ready',
  'get_server_metadata',
  'get_model_metadata',
  'get_model_config',
  'get_inference_statistics',
  'get_trace_settings',
  'get_system_shared_memory_status',
  'get_cuda_shared_memory_status',
];
const named = (prefix: string, names: readonly string[]): Readonly<Record<string, null>> =>
  Object.fromEntries(names.map((name) => [`${prefix}${name}`, null]));

const qa: readonly QaFile[] = [
  {
    path: 'L0_grpc/python_grpc_aio_test.py',
    tests: {
      ...named('TestGrpcAioClient.test_', calls),
      'TestGrpcAioClient.test_get_model_repository_index': itsModels,
      'TestGrpcAioClient.test_load_model': words,
      'TestGrpcAioClient.test_register_system_shared_memory': noSharedMemory,
    },
  },
  {
    path: 'L0_http/python_http_aio_test.py',
    tests: {
      ...named('TestHttpAioClient.test_', calls),
      'TestHttpAioClient.test_get_model_repository_index': itsModels,
      'TestHttpAioClient.test_load_model': words,
    },
  },
  {
    path: 'L0_client_timeout/client_infer_timeout_test.py',
    tests: named('ClientInferTimeoutTest.test_', [
      'grpc_infer',
      'grpc_async_infer',
      'grpc_stream_infer',
      'http_infer',
      'http_async_infer',
    ]),
  },
  {
    path: 'L0_request_cancellation/grpc_cancellation_test.py',
    tests: named('GrpcCancellationTest.test_', [
      'grpc_async_infer',
      'grpc_stream_infer',
      'aio_grpc_async_infer',
      'aio_grpc_stream_infer',
    ]),
  },
  {
    path: 'L0_http/http_test.py',
    tests: {
      ...named('HttpTest.test_', [
        'content_encoding_unsupported_client',
        'inference_header_content_length_out_of_range',
      ]),
      'HttpTest.test_raw_binary': noRawBinary,
      'HttpTest.test_raw_binary_longer': noRawBinary,
      'HttpTest.test_content_encoding_chunked_manually': noRawBinary,
      'HttpTest.test_descriptive_status_code': noRawBinary,
      'HttpTest.test_byte_too_many_elements': words,
      'HttpTest.test_multi_variable_dimensions': words,
      'HttpTest.test_multi_inputs': words,
      'HttpTest.test_buffer_size_overflow': words,
      'HttpTest.test_negative_dimensions': 'it wants status 500 for a mistake of the client',
      'HttpTest.test_json_recursion_depth_limit': words,
      'HttpTest.test_duplicate_output_names': words,
    },
  },
  { path: 'L0_http/http_request_many_chunks.py', tests: { HTTPRequestManyChunksTest: words } },
];

export async function qaOutcomes(url: string, checkout: string | undefined): Promise<readonly Outcome[]> {
  if (checkout === undefined) return skipped(missing('server', 'triton-server'));
  const without = whyNoPythonClients();
  if (without !== null) return skipped(without);
  const name = await nameOfServer(url);
  const outcomes: Outcome[] = [];
  for (const { path, tests } of qa) {
    const folder = join(temporaryFolder(), 'test');
    mkdirSync(folder);
    const [host, port] = url.split(':');
    const text = asOurs(readFileSync(join(checkout, 'qa', path), 'utf8'), name)
      .replaceAll(/localhost:800[01]/g, url)
      .replaceAll('_http_port = 8000', `_http_port = ${port}`)
      .replaceAll('_local_host = "localhost"', `_local_host = "${host}"`);
    writeFileSync(join(folder, 'theirs.py'), text);
    for (const [test, difference] of Object.entries(tests)) {
      const label = `${path.split('/')[0]} ${test}`;
      const program = new TestProcess(python, ['-m', 'unittest', `theirs.${test}`], {
        cwd: folder,
        env: pythonEnv({ PYTHONPATH: join(checkout, 'qa/common') }),
      });
      const { code } = await program.ended(90_000);
      const hasRun = /Ran [1-9]\d* tests?/.test(program.output);
      const why = `${program.output.replace(/[\s\S]*?(?=\n(?:ERROR|FAIL):)/, '').slice(-500)}`;
      const outcome = code === 0 && hasRun ? passed(label) : failed(label, why);
      outcomes.push(known(outcome, difference === null ? {} : { [label]: difference }));
    }
  }
  return outcomes;
}
