// What serves a connection that migrates, by a name that is the same in all workers. A worker takes over a connection
// whose route it has.
//
//   digits                     payloads of the model digits, through whichever listener they come
//   calls 127.0.0.1 8000 0     calls, which name their models: as the listener of this address lets them
//
// Connections with HTTP and gRPC have no route: their parsers keep state that cannot be moved.

import { takesCalls, takesRawFrames } from '../config/listener-protocols.js';
import { type Listener, listenerNames } from '../config/listeners.js';

export type Route =
  | { readonly protocol: 'frames'; readonly model: string }
  | { readonly protocol: 'calls'; readonly listener: Listener };

/** Names of models hold no space, so that no model has the route of calls. */
export const framesRoute = (model: string): string => model;

/** @param listener its name, as `listenerNames` has it */
export const callsRoute = (listener: string): string => `calls ${listener}`;

/** The routes of all connections that can come through these listeners, by their names. */
export function routesOf(listeners: readonly Listener[]): ReadonlyMap<string, Route> {
  const routes = new Map<string, Route>();
  const names = listenerNames(listeners);
  for (const [i, listener] of listeners.entries()) {
    const { protocol, model } = listener;
    if (takesRawFrames(protocol) && model !== null) routes.set(framesRoute(model), { protocol: 'frames', model });
    if (takesCalls(protocol)) routes.set(callsRoute(names[i] as string), { protocol: 'calls', listener });
  }
  return routes;
}
