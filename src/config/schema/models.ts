// An entry of `models`: a model that can be served.

import { type SettingsOf, setting } from '../setting.js';

export const modelSchema = {
  name: setting({ doc: 'Name in listeners, metrics and logs.', format: 'label', default: '' }),
  backend: setting({
    doc: 'onnx (ONNX Runtime), module (a JavaScript module of yours) or dummy (bytes of X).',
    format: 'backend',
    default: 'onnx',
  }),
  path: setting({
    doc: 'Model file; or folder with a model.onnx (model.mjs for a module); or folder of versions, as NAME/3/model.onnx. A relative path starts at the working directory, else at the folder of this package.',
    format: 'textOrEmpty',
    default: '',
  }),
  version: setting({
    doc: 'Which of the versions is served: latest, or the number of one to pin it.',
    format: 'version',
    default: 'latest',
  }),
  execution: setting({
    doc: "Where it runs: inline (on the worker's event loop: quickest for small models), thread, or auto: measured before the port opens.",
    format: 'execution',
    default: 'auto',
  }),
  threads: setting({ doc: 'Threads of each worker, where it runs in threads.', format: 'count', default: 1 }),
  inlineLimitMs: setting({
    doc: 'With auto: a model whose full batch takes longer goes into threads, so that a run never holds the event loop longer than this. The batch of a model that stays is kept as small.',
    format: 'milliseconds',
    default: 2,
  }),
  maxBatchSize: setting({
    doc: 'Rows in one call of the model, at the most; auto: as many as gain by it, as measured before the port opens and while it serves, up to 256. See Batching.',
    format: 'batchSize',
    default: 'auto',
  }),
  latencyTargetMs: setting({
    doc: 'With maxBatchSize auto: what a run of several rows may take, since a request that comes just after its begin waits for its end. As long as people take for at once.',
    format: 'positiveMilliseconds',
    default: 100,
  }),
  maxRunMs: setting({
    doc: 'A run never has more rows than are expected to take this long, whatever maxBatchSize is; one row may. Well below cluster.hangTimeoutMs, so that a slow batch is not taken for one that hangs.',
    format: 'positiveMilliseconds',
    default: 1000,
  }),
  maxBatchMemoryMb: setting({
    doc: 'With maxBatchSize auto: MiB by which larger batches may make a worker grow, since ONNX Runtime keeps what its largest run took.',
    format: 'count',
    default: 256,
  }),
  maxQueueDelayMs: setting({
    doc: 'Time that a batch waits for more rows, from its first; 0: only to the end of the event-loop turn, which loses nothing at low load.',
    format: 'milliseconds',
    default: 0,
  }),
  maxQueue: setting({
    doc: 'Requests of a worker that may wait for this model; one more is refused at once.',
    format: 'count',
    default: 65_536,
  }),
  deadlineMs: setting({
    doc: 'Time from the arrival of a request to its reply; one that cannot be answered in time is dropped before it costs a run. 0: none.',
    format: 'milliseconds',
    default: 5000,
  }),
  retryRows: setting({
    doc: 'Whether a batch that the model throws for is run again row by row, once, so that one poisonous row fails alone.',
    format: Boolean,
    default: true,
  }),
  batchTolerance: setting({
    doc: "By what share of its size a number of an ONNX model's answer may differ between a run of its own and one that it shares with other requests, or exact: not by a bit. A model that differs by more runs one request at a time. See Batching for how the default was chosen.",
    format: 'batchTolerance',
    default: 1e-4,
  }),
  inputs: setting({
    doc: 'What an ONNX model does not say of its inputs itself: {"NAME": {"batchAxis": 1, "shape": [512]}}. See Tensors.',
    format: 'tensorInputs',
    default: {},
  }),
  outputs: setting({
    doc: 'The outputs that are returned, as a list of names; or {"NAME": {"batchAxis": 1, "returned": false}}. Empty: all.',
    format: 'tensorOutputs',
    default: {},
  }),
  constants: setting({
    doc: 'Values of inputs that clients leave out of their payloads: {"sr": 16000}. A number fills the whole tensor.',
    format: 'constants',
    default: {},
  }),
  pad: setting({
    doc: 'Pads requests of differing lengths up to the next bucket, so that they share runs. See Tensors.',
    format: 'pad',
    default: null,
  }),
  responseSize: setting({
    doc: 'Bytes of X that this dummy answers with; by default server.responseSize.',
    format: 'countOrNull',
    default: null,
  }),
  settings: setting({ doc: 'Handed to the module as it is.', format: 'settingsObject', default: {} }),
  session: {
    intraOpNumThreads: setting({
      doc: 'Threads of ONNX Runtime within one run; more than 1 pays only when there are fewer workers than cores.',
      format: 'count',
      default: 1,
    }),
    interOpNumThreads: setting({
      doc: 'Threads of ONNX Runtime across branches of a model.',
      format: 'count',
      default: 1,
    }),
    executionProviders: setting<'list', readonly string[]>({
      doc: 'Execution providers of ONNX Runtime, in order of preference.',
      format: 'list',
      default: ['cpu'],
    }),
    graphOptimizationLevel: setting({
      doc: 'disabled, basic, extended or all.',
      format: 'optimization',
      default: 'all',
    }),
    enableCpuMemArena: setting({
      doc: 'Whether ONNX Runtime keeps the memory of runs for the next ones. Without it, memory comes from the system and goes back to it: where large runs are rare.',
      format: Boolean,
      default: true,
    }),
    enableMemPattern: setting({
      doc: 'Whether ONNX Runtime plans the memory of a run by that of an earlier one of the same shape. Batches have many sizes, and it keeps memory for each: with it, a worker took up to twice as much, and was up to 2 % quicker.',
      format: Boolean,
      default: false,
    }),
  },
};

export type ModelEntry = SettingsOf<typeof modelSchema>;
