// How the connections of each listener are served, in each protocol that it takes; and, by route, those that come from
// another worker.

import { takesCalls, takesHttp, takesRawFrames } from '../config/listener-protocols.js';
import { type Listener, listenerNames } from '../config/listeners.js';
import { callsRoute, framesRoute, routesOf } from '../ipc/routes.js';
import type { ClientProtocol } from '../protocol/first-bytes.js';
import type { ModelEndpoint } from '../serving/model-endpoint.js';
import type { CallListener } from './oip/service.js';
import { type OpenConnection, type ProtocolContext, protocols } from './protocols.js';
import type { TypedProtocols } from './typed.js';

/** A way to serve a connection. */
export interface Entrance {
  readonly open: OpenConnection;
  /** By which it can migrate; null: it cannot. */
  readonly route: string | null;
}

export interface EntranceOptions {
  /** By model. */
  readonly endpoints: ReadonlyMap<string, ModelEndpoint>;
  readonly context: ProtocolContext;
  /** Null: no listener takes anything but raw frames. */
  readonly typed: Pick<TypedProtocols, 'calls' | 'http1' | 'http2'> | null;
}

const callListenerOf = ({ models, model }: Listener): CallListener => ({ models, defaultModel: model });

export class Entrances {
  readonly #listeners: readonly Partial<Record<ClientProtocol, Entrance>>[];
  readonly #routes = new Map<string, OpenConnection>();

  constructor(listeners: readonly Listener[], { endpoints, context, typed }: EntranceOptions) {
    for (const [name, route] of routesOf(listeners)) {
      if (route.protocol === 'calls' && typed !== null)
        this.#routes.set(name, typed.calls(callListenerOf(route.listener)));
      else if (route.protocol === 'frames') {
        const endpoint = endpoints.get(route.model);
        if (endpoint === undefined) throw new Error(`the model ${route.model} is not served`);
        this.#routes.set(name, protocols.raw(endpoint, context));
      }
    }
    const names = listenerNames(listeners);
    this.#listeners = listeners.map((listener, i) => {
      const { protocol, model } = listener;
      const called = callListenerOf(listener);
      const by = (route: string): Entrance => ({ open: this.ofRoute(route), route });
      return {
        ...(takesRawFrames(protocol) && model !== null ? { frames: by(framesRoute(model)) } : {}),
        ...(takesCalls(protocol) ? { calls: by(callsRoute(names[i] as string)) } : {}),
        ...(takesHttp(protocol) && typed !== null
          ? { http1: { open: typed.http1(called), route: null }, http2: { open: typed.http2(called), route: null } }
          : {}),
      };
    });
  }

  /** Of the listener with this index. Throws when it does not take this protocol. */
  of(listener: number, protocol: ClientProtocol): Entrance {
    const entrance = this.#listeners[listener]?.[protocol];
    if (entrance === undefined) throw new Error(`listener ${listener} takes no ${protocol}`);
    return entrance;
  }

  /** For connections of another worker. */
  ofRoute(route: string): OpenConnection {
    const open = this.#routes.get(route);
    if (open === undefined) throw new Error(`${route} is not served`);
    return open;
  }
}
