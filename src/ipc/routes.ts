// What serves a connection that migrates, by a name that is the same in all workers. A worker takes over a connection
// whose route it has.
//
//   digits                     payloads of the model digits, through whichever listener they come
//   calls 127.0.0.1 8000 0     calls, which name their models: as the listener of this address lets them
//   any 127.0.0.1 8000 0       what its first bytes will tell, among the protocols of that listener
//
// Connections with HTTP and gRPC have no route: their parsers keep state that cannot be moved.

import { takesCalls, takesHttp, takesRawFrames } from '../config/listener-protocols.js';
import { type Listener, listenerNames } from '../config/listeners.js';

export type Route =
  | { readonly protocol: 'frames'; readonly model: string }
  | { readonly protocol: 'calls'; readonly listener: Listener }
  | { readonly protocol: 'any'; readonly listener: Listener };

/** Names of models hold no space, so that no model has the route of a listener. */
export const framesRoute = (model: string): string => model;

/** @param listener its name, as `listenerNames` has it */
export const callsRoute = (listener: string): string => `calls ${listener}`;

/** The route of a connection that has not told its protocol yet. */
export const anyRoute = (listener: string): string => `any ${listener}`;

export const isAnyRoute = (route: string): boolean => route.startsWith('any ');

/** The routes of all connections that can come through these listeners, by their names. */
export function routesOf(listeners: readonly Listener[]): ReadonlyMap<string, Route> {
  const routes = new Map<string, Route>();
  const names = listenerNames(listeners);
  for (const [i, listener] of listeners.entries()) {
    const { protocol, model } = listener;
    if (takesRawFrames(protocol) && model !== null) routes.set(framesRoute(model), { protocol: 'frames', model });
    const name = names[i] as string;
    if (takesCalls(protocol)) routes.set(callsRoute(name), { protocol: 'calls', listener });
    if (takesHttp(protocol)) routes.set(anyRoute(name), { protocol: 'any', listener });
  }
  return routes;
}
