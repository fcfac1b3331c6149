// The OpenAPI description of the HTTP API, made of the code: paths of the table of routes, schemas of the descriptions of
// messages, statuses of the table of errors.

import { runningVersion } from '../../code.js';
import { clientErrors } from '../../errors.js';
import { datatypes } from '../../protocol/oip/datatypes.js';
import {
  modelConfigResponse,
  modelMetadataResponse,
  modelStatisticsResponse,
  repositoryIndexResponse,
  serverMetadataResponse,
} from '../../protocol/oip/messages.js';
import type { Fields, MessageType, Type } from '../../protocol/protobuf/messages.js';
import { type Operation, type Route, routes } from './routes.js';

type Json = { readonly [name: string]: unknown };
/** What is only refused is not described. */
type Described = Exclude<Operation, 'notServed'>;

let made: string | null = null;

export function openApiJson(): string {
  made ??= JSON.stringify(openApi());
  return made;
}

function openApi(): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    if (route.operation === 'notServed') continue;
    paths[route.path] ??= {};
    const methods = paths[route.path] as Record<string, Json>;
    methods[route.method.toLowerCase()] = operationOf(route, route.operation);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'ml-tcp-server',
      version: runningVersion,
      description: 'Inference by the Open Inference Protocol, version 2, with the extensions of Triton.',
    },
    security: [{ secret: [] }, {}],
    paths,
    components: {
      securitySchemes: { secret: { type: 'http', scheme: 'bearer', description: 'server.sharedSecret, if it is set' } },
      schemas,
    },
  };
}

function operationOf({ method, path, summary, isFree }: Route, operation: Described): Json {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
  return {
    operationId: idOf(method, path),
    summary,
    ...(isFree ? { security: [] } : {}),
    ...(names.length === 0
      ? {}
      : { parameters: names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })) }),
    ...bodies[operation],
    responses: { ...successes[operation], ...failures(operation, isFree === true) },
  };
}

/** getV2ModelsModelReady */
const idOf = (method: string, path: string): string =>
  method.toLowerCase() +
  path
    .split(/\W+/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');

const json = (schema: Json): Json => ({ 'application/json': { schema } });
const reference = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const answer = (description: string, schema: Json): Json => ({ description, content: json(schema) });
const object = (properties: Json, required: readonly string[] = Object.keys(properties)): Json => ({
  type: 'object',
  properties,
  ...(required.length > 0 ? { required } : {}),
});
const text: Json = { type: 'string' };
const list = (items: Json): Json => ({ type: 'array', items });

const binaryHeader: Json = {
  'Inference-Header-Content-Length': {
    description: 'How many bytes of the body are JSON; the bytes of tensors follow them.',
    schema: { type: 'integer', minimum: 0 },
  },
};

const bodies: Readonly<Partial<Record<Operation, Json>>> = {
  infer: {
    requestBody: {
      required: true,
      content: {
        ...json(reference('InferenceRequest')),
        'application/octet-stream': {
          schema: {
            type: 'string',
            format: 'binary',
            description:
              'An InferenceRequest in JSON, as many bytes as the header Inference-Header-Content-Length says, and behind it the bytes of those inputs that have the parameter binary_data_size: little-endian, in C order, each string behind its length in 4 bytes.',
          },
        },
      },
    },
  },
  repositoryIndex: { requestBody: { required: false, content: json(object({ ready: { type: 'boolean' } }, [])) } },
};

const ok = (schema: Json): Json => ({ '200': answer('As asked.', schema) });
const healthy = object({ live: { type: 'boolean' }, ready: { type: 'boolean' } });

const successes: Readonly<Record<Described, Json>> = {
  serverMetadata: ok(reference('ServerMetadata')),
  live: ok(object({ live: { type: 'boolean' } })),
  ready: { ...ok(healthy), '503': answer('It drains, or has no model yet.', healthy) },
  modelMetadata: ok(reference('ModelMetadata')),
  modelReady: {
    ...ok(object({ name: text, ready: { type: 'boolean' } })),
    '503': answer('It is not ready.', object({ name: text, ready: { type: 'boolean' } })),
  },
  modelConfig: ok(reference('ModelConfig')),
  statistics: ok(reference('ModelStatistics')),
  infer: {
    '200': {
      description: 'What the model answers.',
      headers: binaryHeader,
      content: {
        ...json(reference('InferenceResponse')),
        'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
      },
    },
  },
  repositoryIndex: ok(reference('RepositoryIndex')),
  noRegions: ok({ type: 'array', maxItems: 0 }),
  noSettings: ok({ type: 'object' }),
  openApi: ok({ type: 'object' }),
};

/** Statuses that stand for no row of `clientErrors`. */
const otherStatuses: Readonly<Record<number, string>> = {
  404: 'no such path',
  405: 'the path does not have this method; Allow names those that it has',
  408: 'PAYLOAD_TIMEOUT: the request was not complete in server.payloadTimeoutSeconds',
  415: 'Content-Encoding is neither gzip nor deflate',
  417: 'Expect is not 100-continue',
  431: 'the head of the request is larger than server.maxHeaderKb',
};

function failures(operation: Described, isFree: boolean): Json {
  if (isFree) return {};
  const descriptions = new Map<number, string[]>();
  const tell = (status: number, description: string): void => {
    descriptions.set(status, [...(descriptions.get(status) ?? []), description]);
  };
  const mayTake = (status: number): boolean => operation === 'infer' || [400, 401, 404, 413].includes(status);
  for (const [reason, row] of Object.entries(clientErrors))
    if ('http' in row && mayTake(row.http)) tell(row.http, `${reason}: ${row.meaning}`);
  if (operation === 'infer') for (const status of [408, 415]) tell(status, otherStatuses[status] as string);
  return Object.fromEntries(
    [...descriptions]
      .filter(([status]) => !(String(status) in successes[operation]))
      .map(([status, texts]) => [String(status), answer(texts.join('; '), reference('Error'))]),
  );
}

const integers = new Set<Type>(['int32', 'uint32', 'int64', 'uint64']);

function schemaOf(type: Type): Json {
  if (typeof type === 'object') return 'enum' in type ? { ...text, enum: Object.keys(type.enum) } : messageSchema(type);
  if (integers.has(type)) return { type: 'integer', format: type };
  if (type === 'bool') return { type: 'boolean' };
  return type === 'string' || type === 'bytes' ? text : { type: 'number' };
}

function messageSchema({ fields }: MessageType<Fields>): Json {
  const properties = Object.entries(fields).map(([name, { type, cardinality }]) => {
    if (cardinality === 'many') return [name, list(schemaOf(type))];
    return [name, cardinality === 'map' ? { type: 'object', additionalProperties: schemaOf(type) } : schemaOf(type)];
  });
  const required = Object.entries(fields).flatMap(([name, { cardinality }]) =>
    cardinality === 'optional' ? [] : [name],
  );
  return object(Object.fromEntries(properties), required);
}

const parameters: Json = {
  type: 'object',
  additionalProperties: { type: ['string', 'number', 'boolean', 'array', 'object', 'null'] },
};
const tensor = {
  name: text,
  datatype: { ...text, enum: Object.keys(datatypes) },
  shape: list({ type: 'integer', minimum: 0 }),
  parameters,
  data: {
    type: 'array',
    description: 'Flat, or nested as the shape says. Left out where the tensor is in binary form.',
    items: { type: ['number', 'string', 'boolean', 'array'] },
  },
};
const tensors = (required: readonly string[]): Json => list(object(tensor, required));

const schemas: Readonly<Record<string, Json>> = {
  ServerMetadata: messageSchema(serverMetadataResponse),
  ModelMetadata: messageSchema(modelMetadataResponse),
  ModelConfig: messageSchema(modelConfigResponse.fields.config.type),
  ModelStatistics: messageSchema(modelStatisticsResponse),
  RepositoryIndex: list(messageSchema(repositoryIndexResponse.fields.models.type)),
  InferenceRequest: object(
    {
      id: text,
      parameters,
      inputs: tensors(['name', 'datatype', 'shape']),
      outputs: list(object({ name: text, parameters }, ['name'])),
    },
    ['inputs'],
  ),
  InferenceResponse: object(
    {
      model_name: text,
      model_version: text,
      id: text,
      parameters,
      outputs: tensors(['name', 'datatype', 'shape']),
    },
    ['model_name', 'outputs'],
  ),
  Error: object(
    {
      error: { ...text, description: 'What was expected, and what came.' },
      reason: { ...text, enum: [...Object.keys(clientErrors), 'PAYLOAD_TIMEOUT'].filter(unique) },
      retry_after_ms: { type: 'integer', description: 'When another try is likely to succeed.' },
    },
    ['error'],
  ),
};

function unique(item: string, index: number, all: readonly string[]): boolean {
  return all.indexOf(item) === index;
}
