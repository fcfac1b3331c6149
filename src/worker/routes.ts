// How the connections of each route are served.

import type { Listener } from '../config/listeners.js';
import { routesOf } from '../ipc/routes.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import type { CallListener, OipService } from './oip/service.js';
import { type OpenConnection, type ProtocolContext, protocols } from './protocols.js';

export interface RouteOptions {
  readonly listeners: readonly Listener[];
  /** By model. */
  readonly endpoints: ReadonlyMap<string, ModelEndpoint>;
  readonly oip: OipService;
  readonly context: ProtocolContext;
}

/** What clients of a listener can call. */
export const callListenerOf = ({ models, model }: Listener): CallListener => ({ models, defaultModel: model });

/** By route. */
export function openRoutes({ listeners, endpoints, oip, context }: RouteOptions): ReadonlyMap<string, OpenConnection> {
  const opened = new Map<string, OpenConnection>();
  for (const [name, route] of routesOf(listeners)) {
    if (route.protocol === 'calls') opened.set(name, protocols.calls(oip, callListenerOf(route.listener), context));
    else {
      const endpoint = endpoints.get(route.model);
      if (endpoint === undefined) throw new Error(`the model ${route.model} is not served`);
      opened.set(name, protocols.raw(endpoint, context));
    }
  }
  return opened;
}
