// The way between machines: all records of a cluster are fields of one Redis hash, as JSON, and beside each, in another
// hash, its heartbeat: the sequence of the record and the time that it came, by the clock of Redis.
//   HSET {prefix:cluster}:records  <record id>  <record>
//   HSET {prefix:cluster}:beats    <record id>  "<sequence> <milliseconds since the epoch>"
// The braces are a hash tag: on Redis Cluster all keys of one of our clusters share a slot, so that a script that
// writes one record and removes others is one atomic step there too.
// Records are cumulative, so what was missed is made good by the next one.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BaseRecord, MetricsRecord } from '../snapshot.js';
import { RecordMemory } from './record-memory.js';
import { connectRedis, type RedisClient, type RedisSettings, type RedisStateListener } from './redis-connection.js';
import type { Look, RecordPublisher, RecordSource, RecordUpdate, SeenRecord } from './transport.js';

/** Milliseconds since the epoch by the clock of Redis, as Lua. */
const now = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) ";

/** A record that is not newer than the one that is there does no harm. ARGV: id, sequence, record, retired ids … */
const publishScript = `${now}
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and tonumber(string.match(known, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. string.format('%d', now))
for i = 4, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1`;

const readScript = `${now}
return { string.format('%d', now), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }`;

/** Writes a record that Redis has forgotten, as old as it is. ARGV: id, sequence, record, age in ms */
const restoreScript = `${now}
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and tonumber(string.match(known, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. string.format('%d', now - ARGV[4]))
return 1`;

/**
 * Replaces records by a base that contains them, unless one of them has been renewed since it was read.
 * ARGV: sequence of the base before, or -1; sequence and record of the base; then id and sequence of each record.
 */
const foldScript = `${now}
local known = redis.call('HGET', KEYS[2], 'base')
local sequence = known and tonumber(string.match(known, '^%d+')) or -1
if sequence ~= tonumber(ARGV[1]) then return 0 end
for i = 4, #ARGV, 2 do
  local beat = redis.call('HGET', KEYS[2], ARGV[i])
  if not beat or tonumber(string.match(beat, '^%d+')) ~= tonumber(ARGV[i + 1]) then return 0 end
end
redis.call('HSET', KEYS[1], 'base', ARGV[3])
redis.call('HSET', KEYS[2], 'base', ARGV[2] .. ' ' .. string.format('%d', now))
for i = 4, #ARGV, 2 do redis.call('HDEL', KEYS[1], ARGV[i]) redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1`;

/** What they run is what the user of Redis must be allowed. */
export const recordScripts = [publishScript, readScript, restoreScript, foldScript];

export interface ClusterKeys {
  readonly records: string;
  readonly beats: string;
  readonly leader: string;
  readonly history: string;
  readonly socketIo: string;
  /** Never set: what is asked of it shows whether this Redis takes our writes. */
  readonly check: string;
}

export function clusterKeys({ keyPrefix }: Pick<RedisSettings, 'keyPrefix'>, cluster: string): ClusterKeys {
  const key = (name: string): string => `{${keyPrefix}:${cluster}}:${name}`;
  return {
    records: key('records'),
    beats: key('beats'),
    leader: key('leader'),
    history: key('history'),
    socketIo: key('socket.io'),
    check: key('check'),
  };
}

export class RedisPublisher implements RecordPublisher {
  readonly #redis: RedisClient;
  readonly #keys: ClusterKeys;

  constructor(settings: RedisSettings, cluster: string, onState: RedisStateListener) {
    this.#keys = clusterKeys(settings, cluster);
    this.#redis = connectRedis(settings, onState, this.#keys.check);
  }

  async publish({ record, retires }: RecordUpdate): Promise<void> {
    const { records, beats } = this.#keys;
    const { id, sequence } = record;
    await this.#redis.eval(publishScript, 2, records, beats, id, sequence, JSON.stringify(record), ...retires);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

/** Reads all records, and gives back to Redis what it has forgotten: after a restart with an empty memory, say. */
export class RedisSource implements RecordSource {
  readonly #redis: RedisClient;
  readonly #keys: ClusterKeys;
  readonly #memory = new RecordMemory();

  constructor(redis: RedisClient, keys: ClusterKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  async read(): Promise<Look> {
    const { records, beats } = this.#keys;
    const [nowText, fields, beatFields] = (await this.#redis.eval(readScript, 2, records, beats)) as [
      string,
      string[],
      string[],
    ];
    const now = Number(nowText);
    const { seen, forgotten } = this.#memory.look(await parse(fields, beatFields, now));
    // One that cannot be written now is still forgotten at the next look.
    if (forgotten.length > 0) await Promise.allSettled(forgotten.map((record) => this.#restore(record)));
    return { seen, now };
  }

  /** Replaces `folded` by `base`, which contains them; false when something has changed meanwhile. */
  async fold(base: BaseRecord, before: BaseRecord | null, folded: readonly MetricsRecord[]): Promise<boolean> {
    const { records, beats } = this.#keys;
    const pairs = folded.flatMap(({ id, sequence }) => [id, sequence]);
    const sequences = [before?.sequence ?? -1, base.sequence];
    const args = [...sequences, JSON.stringify(base), ...pairs];
    return (await this.#redis.eval(foldScript, 2, records, beats, ...args)) === 1;
  }

  /** Removes records that others contain by now. */
  async remove(ids: readonly string[]): Promise<void> {
    await Promise.all([this.#redis.hdel(this.#keys.records, ...ids), this.#redis.hdel(this.#keys.beats, ...ids)]);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }

  #restore({ record, ageMs }: SeenRecord): Promise<unknown> {
    const { records, beats } = this.#keys;
    const json = JSON.stringify(record);
    return this.#redis.eval(restoreScript, 2, records, beats, record.id, record.sequence, json, Math.round(ageMs));
  }
}

/** Records that are parsed before others have their turn: a thousand at once would hold the event loop for long. */
const parsedAtOnce = 50;

/** @param fields id, record, id, record …; @param beatFields id, "sequence time", … */
async function parse(
  fields: readonly string[],
  beatFields: readonly string[],
  now: number,
): Promise<readonly SeenRecord[]> {
  const beatAt = new Map<string, number>();
  for (let i = 0; i < beatFields.length; i += 2) {
    beatAt.set(beatFields[i] as string, Number((beatFields[i + 1] as string).split(' ')[1]));
  }
  const seen: SeenRecord[] = [];
  for (let i = 1; i < fields.length; i += 2) {
    const record = JSON.parse(fields[i] as string) as MetricsRecord;
    seen.push({ record, ageMs: Math.max(0, now - (beatAt.get(record.id) ?? now)) });
    if (seen.length % parsedAtOnce === 0) await nextTurn();
  }
  return seen;
}
