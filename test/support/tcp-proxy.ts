// What may stand between us and Redis: a proxy, an address that fails over, a NAT. It forwards bytes unless it is told
// otherwise, and knows no protocol.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

const open = new Set<TcpProxy>();

export class TcpProxy {
  readonly #server: Server;
  /** Both ends of each connection. */
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Ends that do not know that their other ends are gone. */
  readonly #halfOpen = new Set<Socket>();
  #upstream: number;
  #mode: 'forward' | 'silent' | 'refuse' | 'answer' = 'forward';
  #answer = '';
  /** How many connections it has accepted. */
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

  /** New connections lead to `upstream`; open ones stay where they are, as behind an address that fails over. */
  leadTo(upstream: number): void {
    this.#upstream = upstream;
    this.#mode = 'forward';
    for (const [client, server] of this.#pairs) {
      // Connections that were cut off silently stay so for us; their other ends are not needed any more.
      if (client.isPaused()) server.destroy();
    }
  }

  /**
   * Lets no byte through any more, on old and new connections, and notifies nobody, like a NAT that lost its entries.
   */
  silence(): void {
    this.#mode = 'silent';
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** Silently cuts off the connections that are open now; new ones are forwarded. */
  forget(): void {
    this.silence();
    this.#mode = 'forward';
  }

  /** Forwards again, first what was held since `silence`. */
  forward(): void {
    this.#mode = 'forward';
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  /** Ends the clients' side of all connections, and the other side does not notice. Returns how many there were. */
  abandon(): number {
    const pairs = [...this.#pairs];
    this.#pairs.clear();
    for (const [client, server] of pairs) {
      client.destroy();
      if (!server.destroyed) this.#halfOpen.add(server.pause());
    }
    return pairs.length;
  }

  /** Lets the other side notice. */
  resetAbandoned(): void {
    for (const server of this.#halfOpen) server.resetAndDestroy();
    this.#halfOpen.clear();
  }

  /** Accepts connections and closes them at once, as a proxy with nothing behind it does. */
  refuse(): void {
    this.#mode = 'refuse';
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Answers whatever it receives with this text, on old and new connections, and forwards nothing. */
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

/** Closes everything that a test has left open. */
export function closeProxies(): void {
  for (const proxy of open) proxy.close();
}
