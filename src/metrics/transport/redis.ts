// The transport between machines: all records of a cluster are fields of one Redis hash, each a string of three parts:
// the sequence of the record, its heartbeat (when it arrived, by the clock of Redis), and the record as JSON.
//   HSET {prefix:cluster}:records  <record id>  "<sequence> <milliseconds since the epoch> <record>"
// The parts are one value so that Redis cannot lose one of them: it may lose fields and whole keys, and readers that
// have seen them restore them.
// The braces are a hash tag: on Redis Cluster all keys of one of our clusters share a slot, so that a script that
// writes one record and removes others is one atomic step there too.
// Records are cumulative, so the next one makes up for a missed one.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BaseRecord, GoneRecord, MetricsRecord } from '../snapshot.js';
import { RecordMemory } from './record-memory.js';
import { connectRedis, type RedisClient, type RedisSettings, type RedisStateListener } from './redis-connection.js';
import { evictingPolicy } from './redis-eviction.js';
import type { AgedRecord, RecordPublisher, RecordSource, RecordsSnapshot, RecordUpdate } from './transport.js';

/**
 * Lua: `now`, in milliseconds since the epoch by the clock of Redis; the sequence of a field, -1 where there is none;
 * and a function that writes a field with a heartbeat of the given age.
 */
const functions = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function sequenceOf(id)
  local value = redis.call('HGET', KEYS[1], id)
  return value and tonumber(string.match(value, '^(%d+) %d+ ')) or -1
end
local function write(id, sequence, record, age)
  redis.call('HSET', KEYS[1], id, sequence .. ' ' .. string.format('%d', now - age) .. ' ' .. record)
end`;

/**
 * Ignores a record that is not newer than the stored one. Writes a record that Redis has forgotten with its true age.
 * ARGV: id, sequence, record, age in ms, retired ids …
 */
const publishScript = `${functions}
if sequenceOf(ARGV[1]) >= tonumber(ARGV[2]) then return 0 end
write(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))
for i = 5, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
return 1`;

const readScript = `${functions}
return { string.format('%d', now), redis.call('HGETALL', KEYS[1]) }`;

/**
 * Replaces records by one that contains them, unless any of them, that one included, has been renewed since it was
 * read.
 * ARGV: id; its sequence before, or -1; sequence and record; then id and sequence of each record.
 */
const replaceScript = `${functions}
if sequenceOf(ARGV[1]) ~= tonumber(ARGV[2]) then return 0 end
for i = 5, #ARGV, 2 do
  if sequenceOf(ARGV[i]) ~= tonumber(ARGV[i + 1]) then return 0 end
end
write(ARGV[1], ARGV[3], ARGV[4], 0)
for i = 5, #ARGV, 2 do redis.call('HDEL', KEYS[1], ARGV[i]) end
return 1`;

/** ARGV: id and sequence of each record; one that has been renewed since it was read stays. */
const removeScript = `${functions}
for i = 1, #ARGV, 2 do
  if sequenceOf(ARGV[i]) <= tonumber(ARGV[i + 1]) then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1`;

/** The Redis user needs permission for the commands that they run. */
export const recordScripts = [publishScript, readScript, replaceScript, removeScript];

export interface ClusterKeys {
  readonly records: string;
  readonly leader: string;
  readonly history: string;
  readonly socketIo: string;
  /** Never set: a command on it shows whether this Redis accepts our writes. */
  readonly check: string;
  readonly sessions: string;
}

export function clusterKeys({ keyPrefix }: Pick<RedisSettings, 'keyPrefix'>, cluster: string): ClusterKeys {
  const key = (name: string): string => `{${keyPrefix}:${cluster}}:${name}`;
  return {
    records: key('records'),
    leader: key('leader'),
    history: key('history'),
    socketIo: key('socket.io'),
    check: key('check'),
    sessions: key('session'),
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
    const { records } = this.#keys;
    const { id, sequence } = record;
    await this.#redis.eval(publishScript, 1, records, id, sequence, JSON.stringify(record), 0, ...retires);
  }

  /** The policy by which Redis may evict records; null where it may not, or does not tell. */
  evictingPolicy(): Promise<string | null> {
    return evictingPolicy(this.#redis, this.#keys.records);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

/** Reads all records, and restores those that Redis has forgotten, after a restart with an empty memory, say. */
export class RedisSource implements RecordSource {
  readonly #redis: RedisClient;
  readonly #key: string;
  readonly #memory = new RecordMemory();
  #parsed = new Map<string, ParsedField>();

  constructor(redis: RedisClient, { records }: Pick<ClusterKeys, 'records'>) {
    this.#redis = redis;
    this.#key = records;
  }

  async read(): Promise<RecordsSnapshot> {
    const [nowText, fields] = (await this.#redis.eval(readScript, 1, this.#key)) as [string, string[]];
    const now = Number(nowText);
    const { records, forgotten } = this.#memory.update(await this.#parse(fields, now), performance.now());
    // A record that cannot be written now is tried again at the next poll.
    if (forgotten.length > 0) await Promise.allSettled(forgotten.map((record) => this.#restore(record)));
    return { records, now };
  }

  /** Replaces `replaced` by `record`, which contains them; false when any of these has changed meanwhile. */
  async replace(
    record: BaseRecord | GoneRecord,
    before: BaseRecord | GoneRecord | null,
    replaced: readonly MetricsRecord[],
  ): Promise<boolean> {
    const pairs = replaced.flatMap(({ id, sequence }) => [id, sequence]);
    const args = [record.id, before?.sequence ?? -1, record.sequence, JSON.stringify(record), ...pairs];
    return (await this.#redis.eval(replaceScript, 1, this.#key, ...args)) === 1;
  }

  /** Removes records that others now contain. */
  async remove(superseded: readonly MetricsRecord[]): Promise<void> {
    const pairs = superseded.flatMap(({ id, sequence }) => [id, sequence]);
    await this.#redis.eval(removeScript, 1, this.#key, ...pairs);
  }

  /** The policy by which Redis may evict records; null where it may not, or does not tell. */
  evictingPolicy(): Promise<string | null> {
    return evictingPolicy(this.#redis, this.#key);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }

  #restore({ record, ageMs }: AgedRecord): Promise<unknown> {
    const { id, sequence } = record;
    const age = Math.round(Math.min(ageMs, maxAgeMs));
    return this.#redis.eval(publishScript, 1, this.#key, id, sequence, JSON.stringify(record), age);
  }

  /** @param fields id, value, id, value …; a field that is not ours, or is broken, is ignored */
  async #parse(fields: readonly string[], now: number): Promise<readonly AgedRecord[]> {
    const parsed = new Map<string, ParsedField>();
    const records: AgedRecord[] = [];
    for (let i = 0; i < fields.length; i += 2) {
      const [id, value] = [fields[i] as string, fields[i + 1] as string];
      const known = this.#parsed.get(id);
      const field = known?.value === value ? known : parseField(id, value);
      if (field === null) continue;
      parsed.set(id, field);
      records.push({ record: field.record, ageMs: now - field.beat });
      if (field !== known && parsed.size % parsedAtOnce === 0) await nextTurn();
    }
    this.#parsed = parsed;
    return records;
  }
}

/** Kept so that a field that has not changed is not parsed again: records of runs that are gone never change. */
interface ParsedField {
  readonly value: string;
  readonly record: MetricsRecord;
  /** Milliseconds since the epoch, by the clock of Redis. */
  readonly beat: number;
}

/** How many records are parsed in one turn of the event loop: a thousand at once would block it for long. */
const parsedAtOnce = 50;
/** Ages beyond this one make no difference, and the limit keeps the heartbeat a positive number. */
const maxAgeMs = 10 * 365 * 86_400_000;

function parseField(id: string, value: string): ParsedField | null {
  const [, sequence, beat] = /^(\d+) (\d+) /.exec(value) ?? [];
  if (sequence === undefined || beat === undefined) return null;
  try {
    const record = JSON.parse(value.slice(sequence.length + beat.length + 2)) as MetricsRecord;
    return record.id === id ? { value, record, beat: Number(beat) } : null;
  } catch {
    return null;
  }
}
