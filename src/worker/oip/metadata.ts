// What clients are told of the server and of a model, as the Open Inference Protocol and Triton's model configuration
// have it.

import { runningVersion } from '../../code.js';
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
  readonly served: Pick<CallModel['served'], 'plan'>;
};

/** Names say what clients switch on. */
const extensions = ['binary_tensor_data', 'parameters', 'model_configuration', 'statistics', 'model_repository'];

export const serverMetadata = (): Value<(typeof serverMetadataResponse)['fields']> => ({
  name: 'ml-tcp-server',
  version: runningVersion,
  extensions,
});

const platformOf = ({ served }: Described): string => (served.plan === null ? 'ml-tcp-server' : 'onnxruntime_onnx');

export const modelMetadataOf = (model: Described): Value<(typeof modelMetadataResponse)['fields']> => ({
  name: model.name,
  versions: [model.version],
  platform: platformOf(model),
  inputs: model.signature.inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
  outputs: model.signature.outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
});

export function modelConfigOf(model: Described): Value<(typeof modelConfigResponse)['fields']> {
  const { name, signature } = model;
  const { maxBatchSize } = signature;
  const tensor = ({ name: own, datatype, shape }: SignatureTensor) => ({
    name: own,
    data_type: `TYPE_${datatypes[datatype].config}`,
    // With a batch, the shape is that of a row.
    dims: maxBatchSize > 0 ? shape.slice(1) : shape,
  });
  return {
    config: {
      name,
      platform: platformOf(model),
      backend: model.served.plan === null ? '' : 'onnxruntime',
      max_batch_size: maxBatchSize,
      input: signature.inputs.map(tensor),
      output: signature.outputs.map(tensor),
      ...(maxBatchSize > 0 ? { dynamic_batching: {} } : {}),
    },
  };
}
