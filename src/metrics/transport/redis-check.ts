// Tries a Redis the way our processes use it, step by step, and reports for each step whether it works, and if not, why
// and how to fix it. It leaves nothing behind.

import { randomBytes } from 'node:crypto';
import { inTime } from '../../in-time.js';
import { type ClusterKeys, clusterKeys, recordScripts } from './redis.js';
import { formatAddress, type RedisAddress, type RedisSettings, redisUrlOf, tlsFor } from './redis-address.js';
import {
  addressOf,
  askSentinel,
  clearer,
  type Opened,
  type OpenRedis,
  openRedis,
  openServer,
  type Redis,
} from './redis-client.js';
import { writableScript } from './redis-connection.js';
import { mayEvict, policyIn } from './redis-eviction.js';
import { leaseScripts } from './redis-lease.js';
import { problemOf, type RedisProblem } from './redis-problems.js';
import { seriesScripts } from './redis-series.js';

export interface Finding {
  readonly result: 'ok' | 'warning' | 'failed';
  /** What was tried. */
  readonly step: string;
  /** The outcome, in the words of the server where the step failed. */
  readonly reason: string;
  /** How to fix it; empty when nothing needs fixing, or the reason suffices. */
  readonly advice: string;
}

/** All commands that our scripts run: the Redis user needs permission for each of them. */
export const scriptedCommands: readonly string[] = [
  ...new Set(
    [writableScript, ...recordScripts, ...leaseScripts, ...seriesScripts].flatMap((script) =>
      [...script.matchAll(/redis\.call\('(\w+)'/g)].map(([, name]) => (name as string).toUpperCase()),
    ),
  ),
].sort();

/** Arguments after the key, for commands that need more; the trial only looks at whether the commands are allowed. */
const trialArguments: Readonly<Record<string, readonly string[]>> = {
  HGET: ['f'],
  HSET: ['f', 'v'],
  HDEL: ['f'],
  HMGET: ['f'],
  HEXISTS: ['f'],
  HINCRBY: ['f', '1'],
  HSETNX: ['f', 'v'],
  SET: ['v', 'PX', '1000'],
  EXPIRE: ['1'],
  PEXPIRE: ['1000'],
  INCRBY: ['1'],
  ZADD: ['1', 'v'],
  ZREM: ['v'],
  ZRANGE: ['0', '-1'],
  ZRANGEBYSCORE: ['0', '1'],
  ZREMRANGEBYSCORE: ['-inf', '0'],
};

/** Runs each command of ARGV (name, count of arguments, arguments …) and returns name and error of each that fails. */
const trialScript = `local out, i = {}, 1
while i <= #ARGV do
  local args = { unpack(ARGV, i + 2, i + 1 + ARGV[i + 1]) }
  local answer = redis.pcall(ARGV[i], unpack(args))
  if type(answer) == 'table' and answer.err then out[#out + 1] = ARGV[i] out[#out + 1] = answer.err end
  i = i + 2 + ARGV[i + 1]
end
return out`;

const isForbidden = (error: string): boolean => /can't run this command|permission|ACL failure/i.test(error);

export async function* checkRedis(settings: RedisSettings, cluster: string): AsyncGenerator<Finding> {
  const keys = clusterKeys(settings, cluster);
  const servers: RedisAddress[] = [];
  for await (const found of findServers(settings)) {
    if ('host' in found) servers.push(found);
    else yield found;
  }
  if (servers.length === 0) return;
  let isIn = false;
  for await (const finding of logIn(settings, servers)) {
    isIn ||= finding.result === 'ok';
    yield finding;
  }
  if (!isIn) return;
  yield* tryCommands(settings, keys);
  yield* tryMessages(settings, keys);
}

const openOptions = { attempt: 0, knownNodes: [], looksCloser: true };

const ok = (step: string, reason: string): Finding => ({ result: 'ok', step, reason, advice: '' });
const failed = (step: string, { reason, advice }: Pick<RedisProblem, 'reason' | 'advice'>): Finding => ({
  result: 'failed',
  step,
  reason,
  advice,
});

/** When at least one of several findings is ok, the failures of the others are only warnings. */
const softened = (findings: readonly Finding[]): readonly Finding[] =>
  findings.some(({ result }) => result === 'ok')
    ? findings.map((one) => (one.result === 'failed' ? { ...one, result: 'warning' } : one))
    : findings;

async function* findServers(settings: RedisSettings): AsyncGenerator<Finding | RedisAddress> {
  const nodes = settings.nodes.map(addressOf);
  if (nodes.length === 0) yield redisUrlOf(settings);
  else if (settings.masterName === '') yield* nodes;
  else {
    const masters = new Map<string, RedisAddress>();
    const findings = await Promise.all(
      nodes.map(async (sentinel): Promise<Finding> => {
        const step = `Sentinel ${formatAddress(sentinel)}`;
        try {
          const master = await askSentinel(settings, sentinel, true);
          masters.set(formatAddress(master), master);
          return ok(step, `the master ${settings.masterName} is at ${formatAddress(master)}`);
        } catch (error) {
          const { reason, advice } = problemOf(error);
          return failed(step, { reason: reason.replace(`${step}: `, ''), advice });
        }
      }),
    );
    yield* softened(findings);
    if (masters.size > 1)
      yield {
        result: 'warning',
        step: 'Sentinels',
        reason: `they do not agree on where the master is: ${[...masters.keys()].join(', ')}`,
        advice: 'a failover may be under way, or some of them are cut off: look at SENTINEL MASTERS of each',
      };
    yield* [...masters.values()].slice(0, 1);
  }
}

async function* logIn(settings: RedisSettings, servers: readonly RedisAddress[]): AsyncGenerator<Finding> {
  const isCluster = settings.nodes.length > 0 && settings.masterName === '';
  const how = tlsFor(settings, 'server') === null ? 'in plain text' : 'by TLS';
  const findings = await Promise.all(
    servers.map(async (server): Promise<Finding> => {
      const step = `connect to ${formatAddress(server)}`;
      const opened = openServer(settings, server, 'server');
      try {
        await answered(settings, opened, (client) => client.call('ping'));
        if (isCluster) await answered(settings, opened, (client) => client.call('cluster', 'slots'));
        return ok(step, `it answers ${how}, and lets us in`);
      } catch (error) {
        return failed(step, problemOf(error));
      } finally {
        opened.client.disconnect();
      }
    }),
  );
  yield* softened(findings);
}

/** Sends a command; rejects with the most informative error. */
async function answered<T>(
  settings: RedisSettings,
  opened: Opened,
  send: (client: OpenRedis) => Promise<T>,
): Promise<T> {
  const { connectTimeoutMs, commandTimeoutMs } = settings;
  const fail = async (error: unknown): Promise<never> => {
    throw await clearer(error, opened.lastError(), settings, opened.address, 'server');
  };
  const answer = await inTime(send(opened.client), connectTimeoutMs + commandTimeoutMs).catch(fail);
  // What was refused before the command (a login, a database) may have no answer of its own.
  return opened.lastError() !== null && 'select' in opened.client && !('nodes' in opened.client)
    ? fail(opened.lastError())
    : answer;
}

async function* tryCommands(settings: RedisSettings, keys: ClusterKeys): AsyncGenerator<Finding> {
  const opened = await openRedis(settings, { ...openOptions, isSubscription: false });
  const attempt = async (
    step: string,
    reason: string,
    send: (client: OpenRedis) => Promise<unknown>,
  ): Promise<Finding> =>
    answered(settings, opened, send).then(
      () => ok(step, reason),
      (error: unknown) => failed(step, problemOf(error)),
    );
  try {
    const writing = await attempt('write by scripts (EVAL)', 'it is the master, and takes our writes', (client) =>
      client.call('eval', writableScript, 1, keys.check),
    );
    yield writing;
    if (writing.result === 'failed' && !isForbidden(writing.reason)) return;
    if (!/'eval'/.test(writing.reason)) yield* tryScripted(settings, opened, `${keys.check}-trial`);
    for (const key of [keys.records, keys.leader, keys.history]) {
      const finding = await attempt(`use the key ${key}`, 'allowed', (client) =>
        client.call('eval', 'return 1', 1, key),
      );
      if (finding.result === 'failed' && !/'eval'/.test(finding.reason))
        yield { ...finding, advice: `ACL SETUSER … ~${keys.check.replace(/check$/, '*')}` };
    }
    for (const [name, ...args] of [
      ['hdel', keys.check, 'f'],
      ['zrange', keys.check, '0', '-1'],
      ['publish', `${keys.socketIo}-echo#check`, ''],
    ] as const) {
      const finding = await attempt(name.toUpperCase(), 'allowed', (client) => client.call(name, ...args));
      yield isForbidden(finding.reason) && /run the/.test(finding.reason) ? withAdvice(finding, `+${name}`) : finding;
    }
    yield await eviction(settings, opened);
  } catch (error) {
    yield failed('write by scripts (EVAL)', problemOf(error));
  } finally {
    opened.client.disconnect();
  }
}

const withAdvice = (finding: Finding, rule: string): Finding => ({ ...finding, advice: `ACL SETUSER … ${rule}` });

async function* tryScripted(settings: RedisSettings, opened: Opened, key: string): AsyncGenerator<Finding> {
  const trials = [...scriptedCommands, 'SET', 'DEL'].flatMap((name) => {
    const args = name === 'TIME' ? [] : [key, ...(trialArguments[name] ?? [])];
    return [name, String(args.length), ...args];
  });
  try {
    const answer = (await answered(settings, opened, (client) =>
      client.call('eval', trialScript, 1, key, ...trials),
    )) as string[];
    const forbidden: string[] = [];
    for (let i = 0; i < answer.length; i += 2) {
      if (isForbidden(answer[i + 1] as string)) forbidden.push(answer[i] as string);
    }
    const names = [...new Set(forbidden)];
    if (names.length === 0) yield ok('commands inside scripts', scriptedCommands.join(', '));
    else
      yield {
        result: 'failed',
        step: 'commands inside scripts',
        reason: `the user may not run ${names.join(', ')}`,
        advice: `ACL SETUSER … ${names.map((name) => `+${name.toLowerCase()}`).join(' ')}`,
      };
  } catch (error) {
    yield failed('commands inside scripts', problemOf(error));
  }
}

/** After Redis evicts our keys, totals have to wait until the counting processes publish again: worth a warning. */
async function eviction(settings: RedisSettings, opened: Opened): Promise<Finding> {
  const step = 'eviction';
  const ask = async (): Promise<string> =>
    policyIn(String(await answered(settings, opened, (client) => client.call('info', 'memory'))));
  const fromConfig = async (): Promise<string> => {
    const answer = (await answered(settings, opened, (client) =>
      client.call('config', 'get', 'maxmemory-policy'),
    )) as string[];
    return answer[1] ?? '';
  };
  const policy = await ask().catch(() => fromConfig().catch(() => ''));
  if (policy === '')
    return {
      result: 'warning',
      step,
      reason: 'maxmemory-policy may not be asked for (INFO, CONFIG GET)',
      advice: 'make sure that it is noeviction or one of volatile-*, which spares our records',
    };
  if (mayEvict(policy))
    return {
      result: 'warning',
      step,
      reason: `maxmemory-policy is ${policy}: when memory is short, our records may be evicted`,
      advice: 'noeviction or one of volatile-* spares them; or give them a Redis of their own',
    };
  return ok(step, `maxmemory-policy is ${policy}`);
}

async function* tryMessages(settings: RedisSettings, keys: ClusterKeys): AsyncGenerator<Finding> {
  const id = randomBytes(8).toString('hex');
  const channel = `${keys.socketIo}-echo#${id}`;
  const step = 'messages (SUBSCRIBE, PSUBSCRIBE, PUBLISH)';
  const opened: Opened[] = [];
  try {
    const listener = await openRedis(settings, { ...openOptions, isSubscription: true });
    opened.push(listener);
    const publisher = await openRedis(settings, { ...openOptions, isSubscription: false });
    opened.push(publisher);
    const subscriber = listener.client as Redis;
    const heard = new Promise<void>((resolve) => subscriber.once('message', () => resolve()));
    await answered(settings, listener, () => subscriber.subscribe(channel, `${keys.socketIo}-request#/#`));
    await answered(settings, listener, () => subscriber.psubscribe(`${keys.socketIo}#/#*`));
    await answered(settings, publisher, (client) => client.call('publish', channel, 'hello'));
    await inTime(heard, settings.commandTimeoutMs);
    const count = publisher.client.call('pubsub', 'numsub', channel) as Promise<unknown>;
    yield await count.then(
      () => ok(step, 'what is published arrives'),
      (error: unknown) => withAdvice(failed('PUBSUB NUMSUB', problemOf(error)), '+pubsub|numsub'),
    );
  } catch (error) {
    const finding = failed(step, problemOf(error));
    const name = /run the '(\w+)'/.exec(finding.reason)?.[1];
    const channels = `&${keys.socketIo}#/#* &${keys.socketIo}-*`;
    yield isForbidden(finding.reason) ? withAdvice(finding, name === undefined ? channels : `+${name}`) : finding;
  } finally {
    for (const { client } of opened) client.disconnect();
  }
}
