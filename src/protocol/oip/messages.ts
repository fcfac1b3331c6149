// The messages of the Open Inference Protocol, and those that Triton's clients want beside them, as data: proto/ has them
// in the language of Protocol Buffers, and a test holds the two equal. Field numbers are those of the protocol and, where
// it has no such message, of Triton; fields that mean nothing here are left out, and skipped when they come.

import { many, map, message, oneof, optional, plain } from '../protobuf/messages.js';
import { datatypes } from './datatypes.js';

export const serverLiveRequest = message('inference.ServerLiveRequest', {});
export const serverLiveResponse = message('inference.ServerLiveResponse', { live: plain(1, 'bool') });

export const serverReadyRequest = message('inference.ServerReadyRequest', {});
export const serverReadyResponse = message('inference.ServerReadyResponse', { ready: plain(1, 'bool') });

const modelFields = { name: plain(1, 'string'), version: plain(2, 'string') };

export const modelReadyRequest = message('inference.ModelReadyRequest', modelFields);
export const modelReadyResponse = message('inference.ModelReadyResponse', { ready: plain(1, 'bool') });

export const serverMetadataRequest = message('inference.ServerMetadataRequest', {});
export const serverMetadataResponse = message('inference.ServerMetadataResponse', {
  name: plain(1, 'string'),
  version: plain(2, 'string'),
  extensions: many(3, 'string'),
});

const tensorMetadata = message('inference.ModelMetadataResponse.TensorMetadata', {
  name: plain(1, 'string'),
  datatype: plain(2, 'string'),
  shape: many(3, 'int64'),
});
export const modelMetadataRequest = message('inference.ModelMetadataRequest', modelFields);
export const modelMetadataResponse = message('inference.ModelMetadataResponse', {
  name: plain(1, 'string'),
  versions: many(2, 'string'),
  platform: plain(3, 'string'),
  inputs: many(4, tensorMetadata),
  outputs: many(5, tensorMetadata),
});

/** Of these, one is set. */
const inferParameter = message('inference.InferParameter', {
  bool_param: oneof('parameter_choice', 1, 'bool'),
  int64_param: oneof('parameter_choice', 2, 'int64'),
  string_param: oneof('parameter_choice', 3, 'string'),
  double_param: oneof('parameter_choice', 4, 'double'),
  uint64_param: oneof('parameter_choice', 5, 'uint64'),
});
const inferTensorContents = message('inference.InferTensorContents', {
  bool_contents: many(1, 'bool'),
  int_contents: many(2, 'int32'),
  int64_contents: many(3, 'int64'),
  uint_contents: many(4, 'uint32'),
  uint64_contents: many(5, 'uint64'),
  fp32_contents: many(6, 'float'),
  fp64_contents: many(7, 'double'),
  bytes_contents: many(8, 'bytes'),
});
const tensorFields = {
  name: plain(1, 'string'),
  datatype: plain(2, 'string'),
  shape: many(3, 'int64'),
  parameters: map(4, inferParameter),
  contents: optional(5, inferTensorContents),
};

/** As a client writes it; the server reads it with `InferRequestDecoder`. */
export const modelInferRequest = message('inference.ModelInferRequest', {
  model_name: plain(1, 'string'),
  model_version: plain(2, 'string'),
  id: plain(3, 'string'),
  parameters: map(4, inferParameter),
  inputs: many(5, message('inference.ModelInferRequest.InferInputTensor', tensorFields)),
  outputs: many(
    6,
    message('inference.ModelInferRequest.InferRequestedOutputTensor', {
      name: plain(1, 'string'),
      parameters: map(2, inferParameter),
    }),
  ),
  raw_input_contents: many(7, 'bytes'),
});
/** As a client reads it; the server writes it with `InferResponseEncoder`. */
export const modelInferResponse = message('inference.ModelInferResponse', {
  model_name: plain(1, 'string'),
  model_version: plain(2, 'string'),
  id: plain(3, 'string'),
  parameters: map(4, inferParameter),
  outputs: many(5, message('inference.ModelInferResponse.InferOutputTensor', tensorFields)),
  raw_output_contents: many(6, 'bytes'),
});
export const modelStreamInferResponse = message('inference.ModelStreamInferResponse', {
  error_message: plain(1, 'string'),
  infer_response: optional(2, modelInferResponse),
});

/** TYPE_FP32 and the like, in the order of Triton's numbers. */
export const dataType: { readonly enum: Readonly<Record<string, number>> } = {
  enum: {
    TYPE_INVALID: 0,
    ...Object.fromEntries(Object.values(datatypes).map(({ config }, i) => [`TYPE_${config}`, i + 1])),
  },
};

const modelConfig = message('inference.ModelConfig', {
  name: plain(1, 'string'),
  platform: plain(2, 'string'),
  max_batch_size: plain(4, 'int32'),
  input: many(
    5,
    message('inference.ModelInput', {
      name: plain(1, 'string'),
      data_type: plain(2, dataType),
      dims: many(4, 'int64'),
      optional: plain(8, 'bool'),
    }),
  ),
  output: many(
    6,
    message('inference.ModelOutput', {
      name: plain(1, 'string'),
      data_type: plain(2, dataType),
      dims: many(3, 'int64'),
    }),
  ),
  dynamic_batching: oneof(
    'scheduling_choice',
    11,
    message('inference.ModelDynamicBatching', {
      preferred_batch_size: many(1, 'int32'),
      max_queue_delay_microseconds: plain(2, 'uint64'),
    }),
  ),
  sequence_batching: oneof(
    'scheduling_choice',
    13,
    message('inference.ModelSequenceBatching', { max_sequence_idle_microseconds: plain(1, 'uint64') }),
  ),
  backend: plain(17, 'string'),
  model_transaction_policy: optional(19, message('inference.ModelTransactionPolicy', { decoupled: plain(1, 'bool') })),
});
export const modelConfigRequest = message('inference.ModelConfigRequest', modelFields);
export const modelConfigResponse = message('inference.ModelConfigResponse', { config: optional(1, modelConfig) });

const statisticDuration = message('inference.StatisticDuration', { count: plain(1, 'uint64'), ns: plain(2, 'uint64') });
export const modelStatisticsRequest = message('inference.ModelStatisticsRequest', modelFields);
export const modelStatisticsResponse = message('inference.ModelStatisticsResponse', {
  model_stats: many(
    1,
    message('inference.ModelStatistics', {
      name: plain(1, 'string'),
      version: plain(2, 'string'),
      last_inference: plain(3, 'uint64'),
      inference_count: plain(4, 'uint64'),
      execution_count: plain(5, 'uint64'),
      inference_stats: optional(
        6,
        message('inference.InferStatistics', {
          success: optional(1, statisticDuration),
          fail: optional(2, statisticDuration),
          queue: optional(3, statisticDuration),
          compute_input: optional(4, statisticDuration),
          compute_infer: optional(5, statisticDuration),
          compute_output: optional(6, statisticDuration),
          cache_hit: optional(7, statisticDuration),
          cache_miss: optional(8, statisticDuration),
        }),
      ),
      batch_stats: many(
        7,
        message('inference.InferBatchStatistics', {
          batch_size: plain(1, 'uint64'),
          compute_input: optional(2, statisticDuration),
          compute_infer: optional(3, statisticDuration),
          compute_output: optional(4, statisticDuration),
        }),
      ),
    }),
  ),
});

export const repositoryIndexRequest = message('inference.RepositoryIndexRequest', {
  repository_name: plain(1, 'string'),
  ready: plain(2, 'bool'),
});
export const repositoryIndexResponse = message('inference.RepositoryIndexResponse', {
  models: many(
    1,
    message('inference.RepositoryIndexResponse.ModelIndex', {
      name: plain(1, 'string'),
      version: plain(2, 'string'),
      state: plain(3, 'string'),
      reason: plain(4, 'string'),
    }),
  ),
});

export const systemSharedMemoryStatusRequest = message('inference.SystemSharedMemoryStatusRequest', {
  name: plain(1, 'string'),
});
/** There are no regions. */
export const systemSharedMemoryStatusResponse = message('inference.SystemSharedMemoryStatusResponse', {});
export const cudaSharedMemoryStatusRequest = message('inference.CudaSharedMemoryStatusRequest', {
  name: plain(1, 'string'),
});
/** There are no regions. */
export const cudaSharedMemoryStatusResponse = message('inference.CudaSharedMemoryStatusResponse', {});

/** There are no settings to change, whatever is asked for. */
export const traceSettingRequest = message('inference.TraceSettingRequest', {});
export const traceSettingResponse = message('inference.TraceSettingResponse', {});
export const logSettingsRequest = message('inference.LogSettingsRequest', {});
export const logSettingsResponse = message('inference.LogSettingsResponse', {});

/** https://github.com/grpc/grpc/blob/master/doc/health-checking.md */
export const servingStatus = { enum: { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } } as const;
export const healthCheckRequest = message('grpc.health.v1.HealthCheckRequest', { service: plain(1, 'string') });
export const healthCheckResponse = message('grpc.health.v1.HealthCheckResponse', { status: plain(1, servingStatus) });
