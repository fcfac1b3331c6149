// Receives messages from Redis over a connection that repairs itself. A subscriber gets no notice when its server has
// become a replica that no process publishes to any more, and may not ask. So it listens for an echo: what is published
// over a connection that is proved to lead to the master must arrive here.

import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { inTime } from '../../in-time.js';
import type { RedisSettings } from './redis-address.js';
import type { OpenRedis, Redis } from './redis-client.js';
import type { RedisClient } from './redis-connection.js';
import { RedisLink, type RedisStateListener } from './redis-link.js';

interface Subscribed {
  readonly client: OpenRedis;
  readonly channels: Set<string>;
  readonly patterns: Set<string>;
}

/** Emits `messageBuffer` (channel, message) and `pmessageBuffer` (pattern, channel, message), as ioredis does. */
export class RedisSubscription extends EventEmitter {
  readonly #link: RedisLink;
  readonly #publisher: RedisClient;
  readonly #limitMs: number;
  readonly #echoChannel: string;
  readonly #channels: Set<string>;
  readonly #patterns = new Set<string>();
  /** What the current connection has subscribed to. */
  #subscribed: Subscribed | null = null;
  #echo: { readonly nonce: string; readonly arrived: () => void } | null = null;

  /** @param echoChannel used by this subscription alone */
  constructor(settings: RedisSettings, onState: RedisStateListener, publisher: RedisClient, echoChannel: string) {
    super();
    this.#publisher = publisher;
    this.#limitMs = settings.commandTimeoutMs;
    this.#echoChannel = echoChannel;
    this.#channels = new Set([echoChannel]);
    this.#link = new RedisLink({
      settings,
      onState,
      isSubscription: true,
      knownNodes: () => publisher.nodes,
      prove: (client) => this.#prove(client as Redis),
      proofLimitMs: 3 * settings.commandTimeoutMs,
    });
  }

  /** Whether it is connected and recently received its echo. */
  get isUp(): boolean {
    return this.#link.isUp;
  }

  /** Resolves when it is connected. */
  whenUp(): Promise<void> {
    return this.#link.whenUp();
  }

  /** Resolves when Redis has been asked; a subscription that fails now is tried again with the next proof. */
  subscribe(channels: string | readonly string[]): Promise<void> {
    for (const channel of [channels].flat()) this.#channels.add(channel);
    return this.#catchUp();
  }

  psubscribe(patterns: string | readonly string[]): Promise<void> {
    for (const pattern of [patterns].flat()) this.#patterns.add(pattern);
    return this.#catchUp();
  }

  async unsubscribe(channels: string | readonly string[]): Promise<void> {
    for (const channel of [channels].flat()) {
      this.#channels.delete(channel);
      if (this.#subscribed?.channels.delete(channel)) await this.#quietly((client) => client.unsubscribe(channel));
    }
  }

  async punsubscribe(patterns: string | readonly string[]): Promise<void> {
    for (const pattern of [patterns].flat()) {
      this.#patterns.delete(pattern);
      if (this.#subscribed?.patterns.delete(pattern)) await this.#quietly((client) => client.punsubscribe(pattern));
    }
  }

  disconnect(): void {
    this.#link.close();
  }

  #catchUp(): Promise<void> {
    return this.#quietly((client) => this.#subscribe(client));
  }

  /** A refusal is reported by the state; the next proof tries again. */
  async #quietly(send: (client: Redis) => Promise<unknown>): Promise<void> {
    await this.#link.run('subscribe', (client) => send(client as Redis)).catch(() => {});
  }

  async #prove(client: Redis): Promise<void> {
    const asked = this.#subscribe(client).then(() => client.ping());
    // The first proof includes connecting, which takes longer and has its own limit.
    await (this.#link.client === client ? inTime(asked, this.#limitMs) : asked);
    await this.#hearEcho();
  }

  async #subscribe(client: Redis): Promise<void> {
    if (this.#subscribed?.client !== client) this.#listen(client);
    const { channels, patterns } = this.#subscribed as Subscribed;
    const missing = [...this.#channels].filter((channel) => !channels.has(channel));
    const missingPatterns = [...this.#patterns].filter((pattern) => !patterns.has(pattern));
    await Promise.all([
      missing.length > 0 && client.subscribe(...missing).then(() => missing.map((channel) => channels.add(channel))),
      missingPatterns.length > 0 &&
        client.psubscribe(...missingPatterns).then(() => missingPatterns.map((pattern) => patterns.add(pattern))),
    ]);
  }

  #listen(client: Redis): void {
    this.#subscribed = { client, channels: new Set(), patterns: new Set() };
    client.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      if (channel.toString() !== this.#echoChannel) this.emit('messageBuffer', channel, message);
      else if (message.toString() === this.#echo?.nonce) this.#echo.arrived();
    });
    client.on('pmessageBuffer', (pattern: Buffer | string, channel: Buffer, message: Buffer) => {
      this.emit('pmessageBuffer', pattern, channel, message);
    });
  }

  /** Waits for no echo when nothing can be published: the publishing connection has then reported why. */
  async #hearEcho(): Promise<void> {
    if (!this.#publisher.isUp) return;
    const nonce = randomBytes(8).toString('hex');
    const arrived = new Promise<void>((resolve) => {
      this.#echo = { nonce, arrived: resolve };
    });
    const isPublished = await this.#publisher.publish(this.#echoChannel, nonce).then(
      () => true,
      () => false,
    );
    if (!isPublished) return;
    await inTime(arrived, this.#limitMs).catch(() => {
      throw new Error('what is published does not arrive: the subscription leads to another server');
    });
  }
}
