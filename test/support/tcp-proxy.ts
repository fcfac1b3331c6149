// What may stand between us and Redis: a proxy, an address that fails over, a NAT. It forwards bytes until it is told
// otherwise, and knows no protocol.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

const open = new Set<TcpProxy>();

export class TcpProxy {
  readonly #server: Server;
  /** Both ends of each connection. */
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Ends whose other ends are gone, and that were not told. */
  readonly #halfOpen = new Set<Socket>();
  #upstream: number;
  #mode: 'forward' | 'silent' | 'refuse' | 'answer' = 'forward';
  #answer = '';
  /** Connections that it has taken. */
  taken = 0;

  private constructor(upstream: number) {
    this.#upstream = upstream;
    this.#server = createServer((client) => this.#take(client));
    open.add(this);
  }

  static async start(upstream: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(upstream);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get isForwarding(): boolean {
    return this.#mode === 'forward';
  }

  /** Connections that are open at both ends. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** New connections lead there; those that are open stay where they are, as behind an address that fails over. */
  leadTo(upstream: number): void {
    this.#upstream = upstream;
    this.#mode = 'forward';
    for (const [client, server] of this.#pairs) {
      // Those that were cut off without a word stay so for us; their other ends are not needed any more.
      if (client.isPaused()) server.destroy();
    }
  }

  /**
   * No byte goes through any more, of old connections and new ones, and nobody is told: a NAT that lost its entries.
   */
  silence(): void {
    this.#mode = 'silent';
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** Only connections that are open now are cut off without a word; new ones are forwarded. */
  forget(): void {
    this.silence();
    this.#mode = 'forward';
  }

  /** Forwards again, what was held since `silence` first. */
  forward(): void {
    this.#mode = 'forward';
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  /** The clients of all connections are gone, and the other side hears nothing of it. Returns how many they were. */
  abandon(): number {
    const pairs = [...this.#pairs];
    this.#pairs.clear();
    for (const [client, server] of pairs) {
      client.destroy();
      if (!server.destroyed) this.#halfOpen.add(server.pause());
    }
    return pairs.length;
  }

  /** And now it does. */
  resetAbandoned(): void {
    for (const server of this.#halfOpen) server.resetAndDestroy();
    this.#halfOpen.clear();
  }

  /** Takes connections and closes them at once, as a proxy with nothing behind it does. */
  refuse(): void {
    this.#mode = 'refuse';
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Answers whatever it is sent with this, on old connections and new ones, and forwards nothing. */
  answer(text: string): void {
    this.#mode = 'answer';
    this.#answer = text;
  }

  close(): void {
    open.delete(this);
    this.#server.close();
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.resetAbandoned();
  }

  #take(client: Socket): void {
    this.taken++;
    client.on('error', () => client.destroy());
    if (this.#mode === 'refuse') {
      client.destroy();
      return;
    }
    const server = connect(this.#upstream, '127.0.0.1');
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [server, client]] as const) {
      from.on('data', (bytes: Buffer) => {
        if (this.#mode !== 'answer') to.write(bytes);
        else if (from === client) client.write(this.#answer);
      });
      from.on('error', () => from.destroy());
      from.on('close', () => {
        if (this.#pairs.delete(pair)) to.destroy();
      });
    }
    if (this.#mode === 'silent') for (const socket of pair) socket.pause();
  }
}

/** Closes whatever a test has left open. */
export function closeProxies(): void {
  for (const proxy of open) proxy.close();
}
