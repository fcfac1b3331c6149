// One attempt to connect, to any kind of Redis: a single server, Sentinel, Cluster; with user, password and TLS.
// A client opened here never reconnects: RedisLink opens another one when it ends, so that each attempt looks names up,
// asks Sentinels and reads certificates anew, and no client can get stuck in a bad state.

import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { AbstractConnector, Cluster, Redis, type RedisOptions } from 'ioredis';
import { inTime } from '../../in-time.js';
import {
  formatAddress,
  parseHostPort,
  type RedisAddress,
  type RedisSettings,
  type RedisTarget,
  redisUrlOf,
  tlsFor,
} from './redis-address.js';
import { textOf } from './redis-problems.js';

export type { Redis } from 'ioredis';

/** Both have the same commands. */
export type OpenRedis = Redis | Cluster;

export interface Opened {
  readonly client: OpenRedis;
  /** Where it leads; for a Redis Cluster, one of its nodes. */
  readonly address: RedisAddress;
  /** The connection's last error, from the network or the server; commands that fail with it often do not show it. */
  lastError(): Error | null;
}

export interface OpenOptions {
  /** Counts the attempts, so that each begins with another of several nodes. */
  readonly attempt: number;
  /** Whether to open a single connection for messages: with a Redis Cluster, to any of its nodes. */
  readonly isSubscription: boolean;
  /** Known nodes of a Redis Cluster in addition to those of the settings. */
  readonly knownNodes: readonly RedisAddress[];
  /** Whether to open another connection to find out why, when this one fails without an answer. */
  readonly looksCloser: boolean;
}

/** Checks find a vanished peer within seconds; this is for connections without checks, and for the network between. */
const keepAliveMs = 10_000;
/** How long an abandoned connection may take to close; without a limit, one to a vanished peer would wait forever. */
const disconnectTimeoutMs = 250;

/** Throws when no Sentinel knows where the master is, or the TLS files cannot be used. */
export async function openRedis(settings: RedisSettings, options: OpenOptions): Promise<Opened> {
  const url = redisUrlOf(settings);
  const nodes = rotated(settings.nodes.map(addressOf), options.attempt);
  if (nodes.length === 0) return openServer(settings, url, 'server');
  if (settings.masterName !== '')
    return openServer(settings, await masterAddress(settings, nodes, options.looksCloser), 'server');
  if (!options.isSubscription) return openCluster(settings, nodes);
  // All nodes of a Redis Cluster forward messages to one another.
  const all = [...nodes, ...options.knownNodes];
  return openServer(settings, all[options.attempt % all.length] as RedisAddress, 'server');
}

/** One connection to one server. */
export function openServer(settings: RedisSettings, address: RedisAddress, target: RedisTarget): Opened {
  const { host, port } = address;
  const errors = new LastError();
  const options = serverOptions(settings, target, errors);
  const client = new Redis({ ...options, host, port });
  client.on('error', errors.note);
  return { client, address, lastError: errors.get };
}

function openCluster(settings: RedisSettings, nodes: readonly RedisAddress[]): Opened {
  const errors = new LastError();
  const { db, ...redisOptions } = serverOptions(settings, 'server', errors);
  const client = new Cluster([...nodes], {
    redisOptions,
    clusterRetryStrategy: () => null,
    enableReadyCheck: false,
    // Without it, certificates of nodes that announce themselves by name are checked against an address.
    dnsLookup: (address, callback) => callback(null, address),
    slotsRefreshTimeout: settings.connectTimeoutMs,
    retryDelayOnClusterDown: 0,
  });
  client.on('error', errors.note);
  client.on('node error', errors.note);
  return { client, address: nodes[0] as RedisAddress, lastError: errors.get };
}

/** Asks one Sentinel after the other and believes the first that knows the master. Throws the error of the last one. */
async function masterAddress(
  settings: RedisSettings,
  sentinels: readonly RedisAddress[],
  looksCloser: boolean,
): Promise<RedisAddress> {
  let failure: unknown;
  for (const sentinel of sentinels) {
    try {
      return await askSentinel(settings, sentinel, looksCloser);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** Throws the error of the Sentinel or of the network. */
export async function askSentinel(
  settings: RedisSettings,
  sentinel: RedisAddress,
  looksCloser: boolean,
): Promise<RedisAddress> {
  const { masterName, connectTimeoutMs, commandTimeoutMs } = settings;
  const { client, lastError } = openServer(settings, sentinel, 'sentinel');
  try {
    const asked = client.call('sentinel', 'get-master-addr-by-name', masterName) as Promise<[string, string] | null>;
    const found = await inTime(asked, connectTimeoutMs + commandTimeoutMs);
    if (found === null) throw new Error(`it knows no master ${masterName}`);
    return { host: found[0], port: Number(found[1]) };
  } catch (error) {
    throw await clearer(error, lastError(), settings, sentinel, 'sentinel', looksCloser);
  } finally {
    client.disconnect();
  }
}

/** Errors of commands whose connection ended; the reason why it ended is more informative. */
const vague =
  /^Connection is closed|^None of startup nodes|^Cluster is ended|^Failed to refresh slots|^Command aborted|^no answer within|^Timeout|isn't (ready|writeable)/;

/** Whether the other side has said nothing at all, as when TLS meets plain text. */
export function isSilent(error: Error): boolean {
  const text = textOf(error).replace(/^Sentinel \S+: /, '');
  return vague.test(text) || /ECONNRESET|ETIMEDOUT|EPIPE/.test(text);
}

/** The most informative error: what happened to the connection, when a command only says that it has ended. */
export function clearest(error: unknown, lastError: Error | null): Error {
  const first = error as Error;
  return vague.test(first.message) && lastError !== null ? lastError : first;
}

/** Like `clearest`; when the server has said nothing, another connection finds out whether TLS met plain text. */
export async function clearer(
  error: unknown,
  lastError: Error | null,
  settings: RedisSettings,
  address: RedisAddress,
  target: RedisTarget,
  looksCloser = true,
): Promise<Error> {
  const best = clearest(error, lastError);
  const mismatch = isSilent(best) && looksCloser ? await findMismatch(settings, address, target) : null;
  if (target === 'server') return mismatch ?? best;
  const text = textOf(mismatch ?? best);
  // An error reply is recognized by its name.
  return Object.assign(new Error(`Sentinel ${formatAddress(address)}: ${text}`, { cause: best }), { name: best.name });
}

/** An error when one side speaks TLS and the other does not, which neither side reports; else null. */
async function findMismatch(
  settings: RedisSettings,
  address: RedisAddress,
  target: RedisTarget,
): Promise<Error | null> {
  const where = formatAddress(address);
  if (tlsFor(settings, target) === null) {
    const socket = connectTls({ ...address, rejectUnauthorized: false });
    const isTls = await happens(socket, 'secureConnect', settings.connectTimeoutMs);
    return isTls ? new Error(`${where} answers nothing in plain text: it speaks TLS`) : null;
  }
  const socket = connectTcp(address);
  socket.write('PING\r\n');
  const isPlain = await happens(socket, 'data', settings.connectTimeoutMs);
  return isPlain ? new Error(`${where} answers no TLS handshake: it speaks plain text`) : null;
}

/** Whether the socket emits `event` in time; it is closed in the end. */
function happens(socket: Socket, event: 'secureConnect' | 'data', timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const end =
      (hasHappened: boolean) =>
      (bytes?: unknown): void => {
        socket.destroy();
        // 0x15: a TLS alert, the answer to plain text.
        resolve(hasHappened && !(bytes instanceof Buffer && bytes[0] === 0x15));
      };
    socket.setTimeout(timeoutMs, end(false));
    socket.once(event, end(true));
    socket.on('error', end(false));
    socket.once('close', end(false));
  });
}

function serverOptions(settings: RedisSettings, target: RedisTarget, errors: LastError): RedisOptions {
  const { connectTimeoutMs, sentinelUsername, sentinelPassword } = settings;
  const { username, password, db, family } = redisUrlOf(settings);
  const tls = tlsFor(settings, target);
  const login =
    target === 'sentinel' ? { username: sentinelUsername, password: sentinelPassword } : { username, password };
  return {
    Connector: connectorFor(tls, family, errors),
    // The connector has the TLS options; that `tls` is present tells ioredis which event to wait for.
    ...(tls === null ? {} : { tls: {} }),
    ...(login.username === '' ? {} : { username: login.username }),
    ...(login.password === '' ? {} : { password: login.password }),
    ...(target === 'server' ? { db } : {}),
    connectTimeout: connectTimeoutMs,
    disconnectTimeout: disconnectTimeoutMs,
    keepAlive: keepAliveMs,
    retryStrategy: () => null,
    maxRetriesPerRequest: null,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    // INFO and CLIENT may be forbidden, and say nothing that our own checks don't.
    enableReadyCheck: false,
    disableClientInfo: true,
  };
}

/** Opens sockets as ioredis would, but with TLS options for each host: what its certificate is checked against. */
function connectorFor(tls: ((host: string) => ConnectionOptions) | null, family: 0 | 4 | 6, errors: LastError) {
  return class extends AbstractConnector {
    readonly #address: RedisAddress;

    constructor(options: unknown) {
      const { host = 'localhost', port = 6379 } = options as RedisOptions;
      super(disconnectTimeoutMs);
      this.#address = { host, port };
    }

    override async connect(): Promise<Socket> {
      const { host, port } = this.#address;
      this.connecting = true;
      const socket =
        tls === null ? connectTcp({ host, port, family }) : connectTls({ host, port, family, ...tls(host) } as object);
      this.stream = socket;
      socket.on('error', (error: Error) => {
        this.firstError ??= error;
        errors.note(error);
      });
      return socket;
    }
  };
}

class LastError {
  #error: Error | null = null;

  readonly note = (error: Error): void => {
    // An error that only says that the connection has ended does not explain why.
    if (!vague.test(error.message)) this.#error = error;
  };

  readonly get = (): Error | null => this.#error;
}

/** The list, starting at another of its items. */
export function rotated<T>(list: readonly T[], by: number): readonly T[] {
  const at = list.length === 0 ? 0 : by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

export function addressOf(node: string): RedisAddress {
  const address = parseHostPort(node);
  if (address === null) throw new Error('redis.nodes: must be a list of host:port');
  return address;
}

/** The connection itself; for a Redis Cluster, a connection to each of its nodes. */
export const serversOf = (client: OpenRedis): readonly Redis[] => (client instanceof Redis ? [client] : client.nodes());

/** Where a connection leads. */
export function addressOfClient({ options }: Redis): RedisAddress {
  return { host: options.host ?? 'localhost', port: options.port ?? 6379 };
}
