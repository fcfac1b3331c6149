// Well-behaved clients at a steady pace: what they offer does not depend on what is served, so that a slow phase of the
// server always shows.

import { InferenceClient } from '#src/client/client.js';
import { quantile } from './checked-client.js';

export interface SteadyOptions {
  readonly port: number;
  readonly connections: number;
  /** Requests a second, in total. */
  readonly rate: number;
  readonly payload: Buffer;
  readonly reply: Buffer;
}

/** What happened in a span of time. */
export interface Span {
  readonly offered: number;
  /** Replies in this span, whenever their requests were sent. */
  readonly served: number;
  readonly p99Ms: number;
}

export class SteadyClients {
  readonly #clients: readonly InferenceClient[];
  readonly #options: SteadyOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #startedAt = performance.now();
  #sent = 0;
  #offered = 0;
  #served = 0;
  #wrong = 0;
  #latencies: number[] = [];

  private constructor(clients: readonly InferenceClient[], options: SteadyOptions) {
    this.#clients = clients;
    this.#options = options;
    this.#timer = setInterval(this.#send, 2);
  }

  static async connect(options: SteadyOptions): Promise<SteadyClients> {
    const { connections, port } = options;
    const clients = await Promise.all(Array.from({ length: connections }, () => InferenceClient.connect({ port })));
    return new SteadyClients(clients, options);
  }

  /** Replies that were wrong, and requests without a reply. */
  get wrong(): number {
    return this.#wrong;
  }

  /** What happened since the last call. */
  takeSpan(): Span {
    const span = { offered: this.#offered, served: this.#served, p99Ms: quantile(this.#latencies, 0.99) };
    this.#offered = this.#served = 0;
    this.#latencies = [];
    return span;
  }

  destroy(): void {
    clearInterval(this.#timer);
    for (const client of this.#clients) client.destroy();
  }

  readonly #send = (): void => {
    const due = Math.floor(((performance.now() - this.#startedAt) / 1000) * this.#options.rate);
    for (; this.#sent < due; this.#sent++) void this.#ask(this.#clients[this.#sent % this.#clients.length]);
  };

  async #ask(client: InferenceClient | undefined): Promise<void> {
    const startedAt = performance.now();
    this.#offered++;
    try {
      const reply = await client?.infer(this.#options.payload);
      if (!reply?.equals(this.#options.reply)) this.#wrong++;
      this.#served++;
      this.#latencies.push(performance.now() - startedAt);
    } catch {
      this.#wrong++;
    }
  }
}
