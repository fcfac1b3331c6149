// The TCP listeners of the machine. The primary owns them, so that a port stays open whatever happens to workers. A
// listener is opened when a worker that serves it is ready, and closed when no worker and no wanted config has it.

import { type AddressInfo, createServer, type Server } from 'node:net';
import { listenerSettings } from '../../config/addresses.js';
import { listenerNames } from '../../config/listeners.js';
import type { Config } from '../../config/load.js';
import { listenError } from '../../errors.js';
import type { ListenAddress } from '../../ipc/messages.js';
import { acceptHandles, type RawHandle, setListenerOptions } from '../../net/raw-handle.js';

export interface ListenersOptions {
  /** @param listener one of `listenerNames` */
  onConnection(handle: RawHandle, listener: string): void;
  /** A listener is closed. */
  onClosed(listener: string): void;
  /** A connection could not be accepted: no descriptor is left for it. */
  onExhausted(): void;
}

export class Listeners {
  readonly #options: ListenersOptions;
  readonly #servers = new Map<string, Server>();
  /** Configs are opened one after the other. */
  #opening: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /**
   * Opens the listeners of `config` that are not open yet; resolves to the addresses of all its listeners. Rejects with
   * OperatorError LISTEN_FAILED, which names the settings that the address comes from.
   */
  open(config: Config): Promise<readonly ListenAddress[]> {
    const opened = this.#opening.then(() => this.#open(config));
    this.#opening = opened.catch(() => {});
    return opened;
  }

  /** Closes the listeners that none of these configs has; keepalive is set as in the first. */
  keep(configs: readonly [Config, ...Config[]]): void {
    const names = new Set(configs.flatMap(({ listeners }) => listenerNames(listeners)));
    const keepAliveMs = configs[0].server.keepAliveSeconds * 1000;
    for (const [name, server] of this.#servers) {
      if (names.has(name)) setListenerOptions(server, keepAliveMs);
      else this.#close(name, server);
    }
  }

  /** Stops accepting connections. */
  close(): void {
    this.#isClosed = true;
    for (const [name, server] of this.#servers) this.#close(name, server);
  }

  async #open(config: Config): Promise<readonly ListenAddress[]> {
    const addresses: ListenAddress[] = [];
    for (const [i, name] of listenerNames(config.listeners).entries()) {
      if (this.#isClosed) break;
      const { host, port, protocol, models, model } = config.listeners[i] as Config['listeners'][number];
      const server = this.#servers.get(name) ?? (await this.#listen(config, i, name));
      const { port: bound } = (server.address() as AddressInfo | null) ?? { port };
      addresses.push({ host, port: bound, protocol, models, model });
    }
    return addresses;
  }

  async #listen(config: Config, index: number, name: string): Promise<Server> {
    const { host, port } = config.listeners[index] as Config['listeners'][number];
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, host, port, listenerSettings(config, index))));
      server.listen({ host, port, exclusive: true }, resolve);
    });
    server.on('error', () => this.#options.onExhausted());
    const { onConnection, onExhausted } = this.#options;
    setListenerOptions(server, config.server.keepAliveSeconds * 1000);
    acceptHandles(server, (handle) => onConnection(handle, name), onExhausted);
    this.#servers.set(name, server);
    if (this.#isClosed) this.#close(name, server);
    return server;
  }

  #close(name: string, server: Server): void {
    server.close();
    this.#servers.delete(name);
    this.#options.onClosed(name);
  }
}
