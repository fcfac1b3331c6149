// Server reflection: tools ask for the services and their messages, and need no .proto files then.
// https://github.com/grpc/grpc/blob/master/doc/server-reflection.md

import { quoted } from '../../protocol/invalid-message.js';
import { type Decoded, decode, encode, type Value } from '../../protocol/protobuf/messages.js';
import { protoFiles } from '../../protocol/reflection/descriptors.js';
import { reflectionRequest, reflectionResponse } from '../../protocol/reflection/messages.js';
import { statusCodes } from '../../protocol/status-codes.js';
import type { CallFailure } from '../oip/service.js';
import { type Method, statusOfThrown } from './connection.js';
import { frameOf } from './messages.js';
import { ok, statusOf } from './status.js';
import type { CallHandler, GrpcCall } from './transport.js';

export const reflectionServices = ['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'];

type Request = Decoded<(typeof reflectionRequest)['fields']>;
type Response = Value<(typeof reflectionResponse)['fields']>;

const byName = new Map(protoFiles.map(({ file, descriptor }) => [file, Buffer.from(descriptor.join(''), 'base64')]));
const bySymbol = new Map(protoFiles.flatMap(({ file, names }) => names.map((name) => [name, file] as const)));

/** @param services that are listed */
export function reflectionMethods(services: readonly string[]): readonly (readonly [string, Method])[] {
  const method: Method = { isFree: false, handle: (call) => new ReflectionHandler(call, services) };
  return reflectionServices.map((name) => [`/${name}/ServerReflectionInfo`, method]);
}

class ReflectionHandler implements CallHandler {
  readonly mayIdle = true;
  readonly #call: GrpcCall;
  readonly #services: readonly string[];

  constructor(call: GrpcCall, services: readonly string[]) {
    this.#call = call;
    this.#services = services;
  }

  message(source: Buffer, start: number, end: number): void {
    try {
      const request = decode(reflectionRequest, source, start, end);
      const response = { valid_host: request.host, original_request: request, ...this.#answer(request) };
      this.#call.send(frameOf(encode(reflectionResponse, response)));
    } catch (error) {
      this.#call.end(statusOfThrown(error));
    }
  }

  finished(): void {
    this.#call.end(ok);
  }

  refused(failure: CallFailure): void {
    this.#call.end(statusOf(failure));
  }

  cancelled(): void {}

  #answer(request: Request): Response {
    const { file_by_filename: file, file_containing_symbol: symbol, list_services: list } = request;
    if (list !== undefined) return { list_services_response: { service: this.#services.map((name) => ({ name })) } };
    if (file !== undefined) return fileNamed(file, `there is no file ${quoted(file)}`);
    if (symbol !== undefined) return fileNamed(bySymbol.get(symbol), `there is nothing of the name ${quoted(symbol)}`);
    return notFound('there are no extensions');
  }
}

function fileNamed(file: string | undefined, otherwise: string): Response {
  const bytes = file === undefined ? undefined : byName.get(file);
  return bytes === undefined ? notFound(otherwise) : { file_descriptor_response: { file_descriptor_proto: [bytes] } };
}

const notFound = (message: string): Response => ({
  error_response: { error_code: statusCodes.NOT_FOUND, error_message: message },
});
