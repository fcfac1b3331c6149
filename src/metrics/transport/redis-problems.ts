// What is wrong with a Redis, in its own words, and how to fix it.

import { toError } from '../../thrown.js';

export interface RedisProblem {
  /** The same for the same kind of problem, however it is worded. */
  readonly code: string;
  /** What the server or the network said. */
  readonly reason: string;
  /** How to fix it; empty when the reason suffices. */
  readonly advice: string;
  /** `refusing`: it answers with errors; `lost`: it does not answer, or rejects our login. */
  readonly kind: 'lost' | 'refusing';
  /** Whether another connection may help: one that leads to another server, say, or that logs in again. */
  readonly isOfConnection: boolean;
}

interface Row {
  readonly match: RegExp;
  readonly code: string;
  readonly advice: string;
}

const authentication = ['WRONGPASS', 'NOAUTH', 'AUTH'];

/** Refusals that are the same on every connection to this server, so a new connection changes nothing. */
const lasting = ['NOPERM', 'OOM', 'MISCONF', 'BUSY', 'NOREPLICAS', 'WRONGTYPE'];

/** Refusals caused by where this connection leads, or by when it logged in. */
const passing = ['READONLY', 'LOADING', 'MASTERDOWN', 'CLUSTERDOWN', 'MOVED', 'NOAUTH', 'WRONGPASS', 'NOMASTER'];

/** The first row that matches applies. */
const rows: readonly Row[] = [
  {
    match: /^WRONGPASS|invalid password/,
    code: 'WRONGPASS',
    advice: 'user or password are wrong: see redis.url (of Sentinels: redis.sentinelUsername, redis.sentinelPassword)',
  },
  {
    match: /^NOAUTH/,
    code: 'NOAUTH',
    advice:
      'it wants a password: redis://user:password@host in redis.url (of Sentinels: redis.sentinelUsername, redis.sentinelPassword)',
  },
  {
    match: /^ERR (AUTH|Client sent AUTH|wrong number of arguments for 'auth')/,
    code: 'AUTH',
    advice: 'it wants no password, or no user: take it out of redis.url',
  },
  {
    match: /ACL failure in script|^NOPERM|can't run this command|No permissions? to|no permissions? to/,
    code: 'NOPERM',
    advice:
      'the ACL of the user of redis.url lacks it: config/README.md has the line that it needs; `ml-tcp-server config --check` lists what is missing',
  },
  {
    match: /^READONLY|against a read only replica/,
    code: 'READONLY',
    advice: 'this is a replica: connect to the master, or to what leads to it',
  },
  { match: /^LOADING/, code: 'LOADING', advice: 'it reads its data after a start: it will come by itself' },
  {
    match: /^MASTERDOWN/,
    code: 'MASTERDOWN',
    advice: 'this is a replica that has lost its master: connect to the master, or to what leads to it',
  },
  {
    match: /^CLUSTERDOWN/,
    code: 'CLUSTERDOWN',
    advice: 'the Redis Cluster does not serve all slots: look at CLUSTER INFO and CLUSTER NODES',
  },
  {
    match: /^MISCONF/,
    code: 'MISCONF',
    advice: 'it cannot write its data to disk and takes no writes: see its log',
  },
  { match: /^OOM/, code: 'OOM', advice: 'its memory is full (maxmemory): give it more, or let it evict other keys' },
  {
    match: /WRONGTYPE/,
    code: 'WRONGTYPE',
    advice:
      'one of our keys ({redis.keyPrefix:cluster.name}:records, :leader or :history) holds what is not ours: delete it (DEL), or set redis.keyPrefix to a prefix of its own',
  },
  { match: /^BUSY/, code: 'BUSY', advice: 'a script of somebody holds it: SCRIPT KILL ends it' },
  {
    match: /^NOREPLICAS/,
    code: 'NOREPLICAS',
    advice: 'it takes no writes with too few replicas (min-replicas-to-write)',
  },
  {
    match: /^MOVED|^ASK|^CROSSSLOT|SELECT is not allowed in cluster mode/,
    code: 'MOVED',
    advice: 'this is a Redis Cluster: list some of its nodes in redis.nodes; it has only database 0',
  },
  {
    match: /cluster support disabled/,
    code: 'NOCLUSTER',
    advice:
      'this is no Redis Cluster: name one server by redis.url alone, or set redis.masterName if redis.nodes are Sentinels',
  },
  {
    match: /unknown command.*sentinel|unknown subcommand.*get-master-addr/i,
    code: 'NOSENTINEL',
    advice: 'this is no Sentinel: redis.nodes must list Sentinels (usually port 26379), or redis.masterName be empty',
  },
  {
    match: /knows no master/,
    code: 'NOMASTER',
    advice: 'redis.masterName must be a name of `sentinel monitor` in the configuration of the Sentinels',
  },
  {
    match: /unknown command.*(eval|cluster)|unknown subcommand.*slots/i,
    code: 'COMMAND',
    advice: 'this is a Sentinel, or a Redis without this command: see redis.url, redis.nodes and redis.masterName',
  },
  {
    match: /DB index is out of range|invalid DB index/i,
    code: 'DB',
    advice: 'it has fewer databases (`databases` in redis.conf): choose another in redis.url',
  },
  {
    match: /^DENIED/,
    code: 'DENIED',
    advice: 'it is in protected mode: give it a password or an ACL, and use it in redis.url',
  },
  {
    match: /max number of clients/,
    code: 'MAXCLIENTS',
    advice: 'it has no place for more clients: raise its maxclients',
  },
  {
    match: /it speaks plain text|wrong version number|packet length too long|record layer failure/i,
    code: 'PLAINTEXT',
    advice:
      'it speaks no TLS on this port: write redis:// in redis.url, or name its TLS port (of Sentinels: redis.sentinelTls)',
  },
  {
    match: /it speaks TLS|got "\\u0015"/,
    code: 'TLS',
    advice: 'write rediss:// in redis.url (of Sentinels: or set redis.sentinelTls)',
  },
  {
    match: /self[- ]signed certificate|unable to (verify the first|get (local )?issuer) certificate/i,
    code: 'UNTRUSTED',
    advice: 'name the certificate of the authority that signed it in redis.caFile',
  },
  {
    match: /certificate required|handshake failure|bad certificate|unknown ca|certificate unknown/i,
    code: 'CLIENTCERT',
    advice: 'it wants a certificate from us that it trusts: redis.certFile and redis.keyFile',
  },
  {
    match: /certificate has expired|certificate is not yet valid/i,
    code: 'EXPIRED',
    advice: 'its certificate must be renewed (or a clock is wrong)',
  },
  {
    match: /altnames|does not match certificate/i,
    code: 'HOSTNAME',
    advice: 'its certificate is for other names: write one of them as the host of redis.url',
  },
  {
    match: /cannot read|in PEM/,
    code: 'FILE',
    advice: '',
  },
  {
    match: /^what is published does not arrive/,
    code: 'ECHO',
    advice: 'it is replaced, which mends it after a failover; else something between us and Redis spreads connections',
  },
  {
    match: /None of startup nodes/,
    code: 'UNREACHABLE',
    advice:
      'no node of the Redis Cluster can be reached at the address that it announces: see redis.nodes, and CLUSTER SLOTS (cluster-announce-ip)',
  },
  {
    match: /ENOTFOUND|EAI_AGAIN/,
    code: 'UNREACHABLE',
    advice: 'its host name does not resolve: see redis.url and redis.nodes',
  },
  {
    match: /ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/,
    code: 'UNREACHABLE',
    advice: 'nothing answers there: see redis.url and redis.nodes, and whether Redis runs',
  },
];

const maxReasonLength = 300;

/** What an error says; some network errors have a code and no message. */
export const textOf = (error: Error): string => error.message || ((error as NodeJS.ErrnoException).code ?? error.name);

/** @param error from a connection, a command, or reading the files of a connection */
export function problemOf(error: unknown): RedisProblem {
  const thrown = toError(error);
  const text = textOf(thrown);
  // When ioredis gives up on a Redis Cluster, its error quotes the last one it met.
  const reason = (/Last error: (?:ReplyError: )?(.*)$/s.exec(text)?.[1] ?? text).slice(0, maxReasonLength);
  const isReply = thrown.name === 'ReplyError' || reason !== text.slice(0, maxReasonLength);
  const words = reason.replace(/^Sentinel \S+: /, '');
  const row = rows.find(({ match }) => match.test(words));
  const code = row?.code ?? (isReply ? (/^[A-Z]+/.exec(words)?.[0] ?? 'ERR') : 'UNREACHABLE');
  return {
    code,
    reason,
    advice: row?.advice ?? '',
    kind: isReply && !authentication.includes(code) ? 'refusing' : 'lost',
    isOfConnection: !isReply || passing.includes(code),
  };
}

/** Whether a new connection might end this refusal. */
export const mayPass = ({ code }: RedisProblem): boolean => !lasting.includes(code);

/** Whether one side speaks TLS and the other does not. */
export const isMismatch = ({ code }: RedisProblem): boolean => code === 'TLS' || code === 'PLAINTEXT';

/** The error that a command was answered with, or the reason why it could not be sent, as a problem. */
export class RedisError extends Error {
  readonly problem: RedisProblem;

  constructor(problem: RedisProblem, cause?: unknown) {
    super(problem.advice === '' ? problem.reason : `${problem.reason} (${problem.advice})`, { cause });
    this.name = 'RedisError';
    this.problem = problem;
  }
}
