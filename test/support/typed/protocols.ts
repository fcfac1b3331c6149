// Every way to ask for tensors by name.

import { CallsClient } from './calls.js';
import type { TypedClient } from './client.js';
import { GrpcClient } from './grpc.js';
import { HttpClient } from './http.js';

/** With the `protocol` of a listener that speaks it. */
export const typedProtocols = {
  calls: { listener: 'calls', open: (port: number): TypedClient => new CallsClient(port) },
  'HTTP, JSON': { listener: 'open', open: (port: number): TypedClient => new HttpClient(port, false) },
  'HTTP, binary': { listener: 'open', open: (port: number): TypedClient => new HttpClient(port, true) },
  gRPC: { listener: 'open', open: (port: number): TypedClient => new GrpcClient(port) },
} as const;

export type TypedName = keyof typeof typedProtocols;
export const typedNames = Object.keys(typedProtocols) as readonly TypedName[];
