// Everything that is answered besides inference: health, metadata, configuration, statistics. Each is a JSON document.

import { isUtf8 } from 'node:buffer';
import { InvalidMessage } from '../../protocol/invalid-message.js';
import {
  modelConfigResponse,
  modelMetadataResponse,
  modelStatisticsResponse,
  repositoryIndexResponse,
  serverMetadataResponse,
} from '../../protocol/oip/messages.js';
import { jsonOf } from '../../protocol/protobuf/json.js';
import type { CallListener, OipService } from '../oip/service.js';
import { openApiJson } from './openapi.js';
import type { Operation } from './routes.js';

export interface Document {
  readonly status: number;
  readonly json: string;
}

/** Where it is asked. */
export interface Asking {
  readonly listener: CallListener;
  readonly context: { readonly service: OipService };
}

export interface AskedDocument {
  readonly model: string;
  readonly version: string;
  readonly body: Buffer;
}

const live = { status: 200, json: '{"live":true}' };
const notServed = {
  status: 501,
  json: '{"error":"this server does not do that on request: models, logs and traces are as its config says, and tensors travel in requests"}',
};

/** Throws, or rejects with, CallError or InvalidMessage. */
export function documentOf(
  operation: Operation,
  { listener, context: { service } }: Asking,
  { model, version, body }: AskedDocument,
): Document | Promise<Document> {
  switch (operation) {
    case 'live':
      return live;
    case 'ready':
      return health(service.isReady);
    case 'serverMetadata':
      return ok(jsonOf(serverMetadataResponse, service.serverMetadata()));
    case 'modelMetadata':
      return ok(jsonOf(modelMetadataResponse, service.modelMetadata(listener, model, version)));
    case 'modelReady':
      return modelReady(service, listener, model, version);
    case 'modelConfig': {
      const { config = {} } = service.modelConfig(listener, model, version);
      return ok(jsonOf(modelConfigResponse.fields.config.type, config));
    }
    case 'statistics':
      return statistics(service, listener, model, version);
    case 'repositoryIndex':
      return ok(indexOf(service, listener, body));
    case 'noRegions':
      return ok('[]');
    case 'noSettings':
      return ok('{}');
    case 'openApi':
      return ok(openApiJson());
    case 'notServed':
      return notServed;
    case 'infer':
      throw new Error('inference is no document');
  }
}

const ok = (json: string): Document => ({ status: 200, json });

/** As Triton, KServe and the protocol's description want it: the last has both members. */
const health = (isReady: boolean): Document => ({
  status: isReady ? 200 : 503,
  json: JSON.stringify({ live: true, ready: isReady }),
});

function modelReady(service: OipService, listener: CallListener, model: string, version: string): Document {
  const { name = model } = service.modelMetadata(listener, model, version); // throws where there is no such model
  const ready = service.isReady && service.isModelReady(listener, model, version);
  return { status: ready ? 200 : 503, json: JSON.stringify({ name, ready }) };
}

async function statistics(
  service: OipService,
  listener: CallListener,
  model: string,
  version: string,
): Promise<Document> {
  return ok(jsonOf(modelStatisticsResponse, await service.modelStatistics(listener, model, version)));
}

/** The body may ask for models that are ready alone, as {"ready": true}. */
function indexOf(service: OipService, listener: CallListener, body: Buffer): string {
  const onlyReady = body.length > 0 && wantsReady(body);
  const { models = [] } = service.repositoryIndex(listener);
  const shown = onlyReady ? models.filter(({ state }) => state === 'READY') : models;
  return `[${shown.map((model) => jsonOf(repositoryIndexResponse.fields.models.type, model)).join(',')}]`;
}

const maxIndexBytes = 4096;

function wantsReady(body: Buffer): boolean {
  if (body.length > maxIndexBytes || !isUtf8(body))
    throw new InvalidMessage('the body should be {"ready": true}, or nothing');
  try {
    const { ready = false } = JSON.parse(body.toString()) as { readonly ready?: unknown };
    if (typeof ready === 'boolean') return ready;
  } catch {
    // Told below.
  }
  throw new InvalidMessage('the body should be {"ready": true}, or nothing');
}
