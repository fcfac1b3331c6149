// The commands that we send to Redis, over a connection that repairs itself. Nothing queues: a command that cannot be
// sent at once fails at once, and one that is not answered in time fails together with its connection.

import type { RedisAddress, RedisSettings } from './redis-address.js';
import { addressOfClient, type OpenRedis, type Redis, serversOf } from './redis-client.js';
import { RedisLink, type RedisStateListener } from './redis-link.js';

export type { RedisSettings } from './redis-address.js';
export type { RedisStateListener } from './redis-link.js';
export type { RedisProblem } from './redis-problems.js';

type Argument = string | number | Buffer;

/**
 * Writes nothing, but is refused wherever writing is, so it succeeds on the master alone. KEYS: one of ours, never set.
 */
export const writableScript = "return redis.call('HDEL', KEYS[1], '')";

export class RedisClient {
  readonly #link: RedisLink;

  constructor(link: RedisLink) {
    this.#link = link;
  }

  /** Whether it is connected and was recently proved to work. */
  get isUp(): boolean {
    return this.#link.isUp;
  }

  /** Resolves when it is connected. */
  whenUp(): Promise<void> {
    return this.#link.whenUp();
  }

  eval(script: string, keys: number, ...args: readonly Argument[]): Promise<unknown> {
    // The script serves as the command's name: that one is refused says nothing about another.
    return this.#link.run(script, (client) => client.call('eval', script, keys, ...args));
  }

  zrange(key: string, start: number, stop: number): Promise<string[]> {
    return this.call('zrange', key, start, stop) as Promise<string[]>;
  }

  publish(channel: string, message: string | Buffer): Promise<number> {
    return this.call('publish', channel, message) as Promise<number>;
  }

  /** Any command; on a Redis Cluster, it runs on the node that its first key belongs to. */
  call(command: string, ...args: readonly Argument[]): Promise<unknown> {
    const name = command.toLowerCase();
    return this.#link.run(name, (client) => client.call(name, ...args));
  }

  /** Subscribers of a channel, on all nodes. */
  async countSubscribers(channel: string): Promise<number> {
    const ask = (client: Redis): Promise<unknown> => client.call('pubsub', 'numsub', channel);
    const counts = await this.#link.run('pubsub', (client) => Promise.all(serversOf(client).map(ask)));
    return counts.reduce<number>((sum, reply) => sum + Number((reply as [string, number])[1]), 0);
  }

  /** The server that it leads to; for a Redis Cluster, all nodes. */
  get nodes(): readonly RedisAddress[] {
    const { client } = this.#link;
    return client === null ? [] : serversOf(client).map(addressOfClient);
  }

  disconnect(): void {
    this.#link.close();
  }
}

/**
 * A connection that always reconnects by itself.
 * @param key one of ours that is never set: if given, a server that accepts no writes is the wrong one
 */
export function connectRedis(settings: RedisSettings, onState: RedisStateListener, key?: string): RedisClient {
  const prove = (client: OpenRedis): Promise<unknown> =>
    key === undefined ? client.call('ping') : client.call('eval', writableScript, 1, key);
  return new RedisClient(new RedisLink({ settings, onState, prove }));
}
