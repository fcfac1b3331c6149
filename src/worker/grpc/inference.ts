// inference.GRPCInferenceService: the calls of the Open Inference Protocol, and of Triton those that its clients make.

import * as messages from '../../protocol/oip/messages.js';
import type { Method } from './connection.js';
import { modelInfer } from './model-infer.js';
import { modelStreamInfer } from './model-stream-infer.js';
import { unary } from './unary.js';

export const inferenceService = 'inference.GRPCInferenceService';

const empty = (): Record<string, never> => ({});

/** By name. Others that Triton has (loading models, shared memory) are none of ours. */
const methods: Readonly<Record<string, Method>> = {
  ModelInfer: modelInfer,
  ModelStreamInfer: modelStreamInfer,
  ServerLive: unary(messages.serverLiveRequest, messages.serverLiveResponse, () => ({ live: true }), true),
  ServerReady: unary(
    messages.serverReadyRequest,
    messages.serverReadyResponse,
    (_, { service }) => ({ ready: service.isReady }),
    true,
  ),
  ModelReady: unary(
    messages.modelReadyRequest,
    messages.modelReadyResponse,
    ({ name, version }, { service, listener }) => ({ ready: service.isModelReady(listener, name, version) }),
    true,
  ),
  ServerMetadata: unary(messages.serverMetadataRequest, messages.serverMetadataResponse, (_, { service }) =>
    service.serverMetadata(),
  ),
  ModelMetadata: unary(
    messages.modelMetadataRequest,
    messages.modelMetadataResponse,
    ({ name, version }, { service, listener }) => service.modelMetadata(listener, name, version),
  ),
  ModelConfig: unary(
    messages.modelConfigRequest,
    messages.modelConfigResponse,
    ({ name, version }, { service, listener }) => service.modelConfig(listener, name, version),
  ),
  ModelStatistics: unary(
    messages.modelStatisticsRequest,
    messages.modelStatisticsResponse,
    ({ name, version }, { service, listener }) => service.modelStatistics(listener, name, version),
  ),
  RepositoryIndex: unary(
    messages.repositoryIndexRequest,
    messages.repositoryIndexResponse,
    (_, { service, listener }) => service.repositoryIndex(listener),
  ),
  SystemSharedMemoryStatus: unary(
    messages.systemSharedMemoryStatusRequest,
    messages.systemSharedMemoryStatusResponse,
    empty,
  ),
  CudaSharedMemoryStatus: unary(messages.cudaSharedMemoryStatusRequest, messages.cudaSharedMemoryStatusResponse, empty),
  TraceSetting: unary(messages.traceSettingRequest, messages.traceSettingResponse, empty),
  LogSettings: unary(messages.logSettingsRequest, messages.logSettingsResponse, empty),
};

/** By path. */
export const inferenceMethods: readonly (readonly [string, Method])[] = Object.entries(methods).map(
  ([name, method]) => [`/${inferenceService}/${name}`, method],
);
