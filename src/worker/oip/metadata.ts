// What clients are told of the server and of a model: metadata as the Open Inference Protocol has it, and the model
// configuration as Triton has it, since its clients plan their requests by it. In metadata a shape has the batch, as -1;
// in a configuration it is that of a row where max_batch_size says that there is a batch.

import { runningVersion } from '../../code.js';
import type { Backend } from '../../inference/backends/load.js';
import { datatypes } from '../../protocol/oip/datatypes.js';
import type {
  modelConfigResponse,
  modelMetadataResponse,
  serverMetadataResponse,
} from '../../protocol/oip/messages.js';
import type { Value } from '../../protocol/protobuf/messages.js';
import type { CallModel } from './call-models.js';
import type { SignatureTensor } from './signature.js';

type Described = Pick<CallModel, 'name' | 'version' | 'signature'> & {
  readonly served: Pick<CallModel['served'], 'backend' | 'plan' | 'maxQueueDelayMs'>;
};

/** Names say what clients switch on. */
const extensions = ['binary_tensor_data', 'parameters', 'model_configuration', 'statistics', 'model_repository'];

export const serverMetadata = (): Value<(typeof serverMetadataResponse)['fields']> => ({
  name: 'ml-tcp-server',
  version: runningVersion,
  extensions,
});

/** `platform` and `backend`: for ONNX models, in Triton's words. */
const backends: Readonly<Record<Backend, readonly [platform: string, backend: string]>> = {
  onnx: ['onnxruntime_onnx', 'onnxruntime'],
  module: ['nodejs_module', 'nodejs'],
  dummy: ['dummy', 'dummy'],
};

export function modelMetadataOf({
  name,
  version,
  signature,
  served,
}: Described): Value<(typeof modelMetadataResponse)['fields']> {
  const tensor = ({ name, datatype, shape }: SignatureTensor) => ({ name, datatype, shape });
  const [platform] = backends[served.backend];
  return {
    name,
    versions: [version],
    platform,
    inputs: signature.inputs.map(tensor),
    outputs: signature.outputs.map(tensor),
  };
}

export function modelConfigOf({ name, signature, served }: Described): Value<(typeof modelConfigResponse)['fields']> {
  const { maxBatchSize } = signature;
  const { plan, maxQueueDelayMs } = served;
  const [platform, backend] = backends[served.backend];
  const tensor = ({ name, datatype, shape }: SignatureTensor) => ({
    name,
    data_type: `TYPE_${datatypes[datatype].config}` as const,
    dims: maxBatchSize > 0 ? shape.slice(1) : shape,
  });
  const fixedBatch = plan?.fixedBatch ?? null;
  const batching = {
    preferred_batch_size: fixedBatch === null ? [] : [fixedBatch],
    max_queue_delay_microseconds: Math.round(1000 * maxQueueDelayMs),
  };
  return {
    config: {
      name,
      platform,
      backend,
      max_batch_size: maxBatchSize,
      input: signature.inputs.map(tensor),
      output: signature.outputs.map(tensor),
      ...(maxBatchSize > 0 ? { dynamic_batching: batching } : {}),
      model_transaction_policy: { decoupled: false },
    },
  };
}
