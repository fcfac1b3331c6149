// Every setting: its format, default, environment variable, and a sentence on what it is for. The README's table is
// made from this file.

import { hostname } from 'node:os';
import convict from 'convict';
import type { TlsSettings } from '../certificates.js';
import type { SessionSettings } from '../inference/backends/onnx.js';
import type { Backend } from '../inference/catalogue.js';
import type { BatchTolerance } from '../inference/model.js';
import type { Execution } from '../inference/served-model.js';
import type { LengthFieldSize } from '../protocol/frames.js';
import './convict-formats.js';
import { type CpuLimit, workersFor } from './cpu-limit.js';

export interface Settings {
  server: {
    host: string;
    port: number;
    model: string;
    responseSize: number;
    lengthFieldSize: LengthFieldSize;
    maxConnections: number;
    maxConnectionsPerAddress: number;
    maxNewConnectionsPerSecond: number;
    allow: string[];
    deny: string[];
    sharedSecret: string;
    tls: TlsSettings;
    maxPayloadSizeKb: number;
    payloadTimeoutSeconds: number;
    idleTimeoutSeconds: number;
    writeTimeoutSeconds: number;
    keepAliveSeconds: number;
    maxInFlightPerConnection: number;
    maxWriteBufferKb: number;
    maxBufferedMb: number;
    drainTimeoutSeconds: number;
  };
  cluster: {
    name: string;
    node: string;
    workers: number | 'auto';
    maxBootFailures: number;
    bootTimeoutSeconds: number;
    hangTimeoutMs: number;
    maxHungThreads: number;
    moveConnections: boolean;
  };
  models: ModelEntry[];
  listeners: ListenerEntry[];
  onnxRuntime: { packageFolder: string; disableTelemetry: boolean };
  redis: {
    url: string;
    nodes: string[];
    masterName: string;
    sentinelUsername: string;
    sentinelPassword: string;
    sentinelTls: boolean | null;
    caFile: string;
    certFile: string;
    keyFile: string;
    keyPrefix: string;
    connectTimeoutMs: number;
    commandTimeoutMs: number;
    checkIntervalMs: number;
  };
  http: {
    host: string;
    port: number;
    token: string;
    tls: TlsSettings;
    corsOrigins: string[];
    basePath: string;
    trustedProxies: string[];
    maxConnections: number;
    maxRequestsPerSecond: number;
    maxLiveClients: number;
    requestTimeoutSeconds: number;
    pingIntervalSeconds: number;
    keepAliveSeconds: number;
  };
  metrics: {
    publishIntervalMs: number;
    streamIntervalMs: number;
    nodeRetentionSeconds: number;
    slabFolder: string;
    ledgerFolder: string;
    takeOverSeconds: number;
    leftoverRetentionDays: number;
  };
  otlp: { endpoint: string; intervalMs: number; traceRatio: number };
  control: { socket: string };
  log: { level: string; format: 'auto' | 'json' | 'pretty'; maxBufferedKb: number; flushTimeoutMs: number };
}

export interface ModelEntry {
  name: string;
  backend: Backend;
  path: string;
  version: string;
  execution: Execution;
  threads: number;
  inlineLimitMs: number;
  maxBatchSize: number;
  maxQueueDelayMs: number;
  maxQueue: number;
  deadlineMs: number;
  retryRows: boolean;
  batchTolerance: BatchTolerance;
  session: SessionSettings;
  responseSize: number | null;
  settings: Record<string, unknown>;
}

export interface ListenerEntry {
  host: string;
  port: number;
  model: string;
  /** null: as server.tls says. */
  tls: boolean | null;
}

/** The machine's own name, and workers for its cores and for what a cgroup allows, where config leaves them open. */
export const resolvedNode = (node: string): string => node || hostname();
export const resolvedWorkers = (workers: number | 'auto', limit: CpuLimit | null): number =>
  workers === 'auto' ? workersFor(limit) : workers;

/** @param section where it stands; `what` speaks TLS with it; `prefix` of environment variables */
function tlsSchema(section: string, what: string, prefix: string): convict.Schema<TlsSettings> {
  return {
    certFile: {
      doc: `PEM file with the certificate of the ${what}, and the chain behind it. Empty: no TLS. It is read again when it changes.`,
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_CERT_FILE`,
    },
    keyFile: {
      doc: `PEM file with the key of ${section}.certFile, not encrypted, readable for the server's user alone.`,
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_KEY_FILE`,
    },
    caFile: {
      doc: 'PEM file with the authorities that must have signed a certificate of each client. Empty: clients need none.',
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_CA_FILE`,
    },
    minVersion: {
      doc: 'Oldest version of TLS that is spoken: TLSv1.2 or TLSv1.3.',
      format: 'tlsVersion',
      default: 'TLSv1.2',
      env: `${prefix}_TLS_MIN_VERSION`,
    },
  };
}

export const schema: convict.Schema<Settings> = {
  server: {
    host: {
      doc: 'Address of the TCP listener. Anything but loopback opens it to the network.',
      format: 'text',
      default: '127.0.0.1',
      env: 'HOST',
    },
    port: {
      doc: 'Port of the TCP listener, when `listeners` is empty.',
      format: 'portNumber',
      default: 8081,
      env: 'PORT',
    },
    model: {
      doc: 'Name of the model behind server.port, when `listeners` is empty.',
      format: 'label',
      default: 'digits',
      env: 'MODEL',
    },
    responseSize: {
      doc: 'Bytes of X that a dummy model answers with, where it has no responseSize of its own.',
      format: 'countOrNone',
      default: 5,
      env: 'RESPONSE_SIZE',
    },
    lengthFieldSize: {
      doc: 'Bytes of the big-endian length in front of each payload, both ways: 2, 4 or 8.',
      format: 'lengthField',
      default: 4,
      env: 'LENGTH_FIELD_SIZE',
    },
    maxConnections: {
      doc: 'Connections that the whole machine serves at once; one more is answered with an empty frame and closed. In a storm a hundred a second are told so, the others only closed.',
      format: 'count',
      default: 100,
      env: 'MAX_CONNECTIONS',
    },
    maxConnectionsPerAddress: {
      doc: 'Connections that one client address may have at once (of IPv6: a /64); 0: no limit of its own, since clients behind one proxy share an address.',
      format: 'countOrNone',
      default: 0,
      env: 'MAX_CONNECTIONS_PER_ADDRESS',
    },
    maxNewConnectionsPerSecond: {
      doc: 'Connections that the machine takes in a second; 0: no limit, since after an outage a whole fleet connects at once.',
      format: 'countOrNone',
      default: 0,
    },
    allow: {
      doc: 'Addresses and CIDR ranges that may connect: ["10.0.0.0/8", "fd00::/8"]. Empty: all that can reach the listener.',
      format: 'addressRanges',
      default: [],
      env: 'ALLOW',
    },
    deny: {
      doc: 'Addresses and CIDR ranges that may not connect, even if `allow` has them.',
      format: 'addressRanges',
      default: [],
      env: 'DENY',
    },
    sharedSecret: {
      doc: 'What the payload of the first frame of each connection must be, for clients without TLS certificates; it has no reply. Empty: no secret is asked for. It is no secret to who can read the traffic: use TLS beyond machines you trust.',
      format: 'secretOrEmpty',
      default: '',
      env: 'SHARED_SECRET',
      sensitive: true,
    },
    tls: tlsSchema('server.tls', 'TCP listeners', 'SERVER'),
    maxPayloadSizeKb: {
      doc: 'Largest payload of a request in KiB; a frame that announces more is refused unread.',
      format: 'count',
      default: 1024,
      env: 'MAX_PAYLOAD_SIZE_KB',
    },
    payloadTimeoutSeconds: {
      doc: 'Time that a client has to finish a frame it began, so that slow senders cannot hold connections.',
      format: 'positiveSeconds',
      default: 30,
      env: 'PAYLOAD_TIMEOUT_SECONDS',
    },
    idleTimeoutSeconds: {
      doc: 'Time after which a connection that asks nothing is closed; 0 keeps it, since a quiet client is no error.',
      format: 'seconds',
      default: 0,
    },
    writeTimeoutSeconds: {
      doc: 'Time that a client may take nothing of the replies that wait for it; then it is cut, since it holds memory and nobody reads at its end. Longer than a network is away for a moment.',
      format: 'positiveSeconds',
      default: 60,
    },
    keepAliveSeconds: {
      doc: 'Silence on a connection after which the kernel asks whether its client is still there (TCP keepalive); one that does not answer for 10 seconds is closed. Shorter than firewalls, NATs and balancers remember a silent connection. 0: never, then a client that is gone without a word keeps its place.',
      format: 'keepAlive',
      default: 30,
    },
    maxInFlightPerConnection: {
      doc: 'Requests of one connection that may wait for replies; beyond it the server stops reading, and TCP slows the client down.',
      format: 'count',
      default: 1024,
    },
    maxWriteBufferKb: {
      doc: 'Replies in KiB that may wait for a client that does not read them; beyond it the server stops reading from it.',
      format: 'count',
      default: 1024,
    },
    maxBufferedMb: {
      doc: 'MiB that all connections of one worker may hold together: frames that are not whole, requests that wait, replies that are not taken. Beyond it those that hold more than an even share are not read from. See Security for the memory that it makes a worker need.',
      format: 'count',
      default: 128,
    },
    drainTimeoutSeconds: {
      doc: 'Time that requests in flight have to be answered when the server stops; connections that are left are cut.',
      format: 'positiveSeconds',
      default: 10,
    },
  },
  cluster: {
    name: {
      doc: 'Servers with the same name (and Redis) are one cluster and share totals.',
      format: 'label',
      default: 'default',
      env: 'CLUSTER_NAME',
    },
    node: {
      doc: 'Name of this machine in metrics and logs; empty means its host name.',
      format: 'labelOrEmpty',
      default: '',
      env: 'NODE_NAME',
    },
    workers: {
      doc: "Worker processes; 'auto' means one for each core; where a cgroup allows less processor time, one for each whole core of that.",
      format: 'workers',
      default: 'auto',
      env: 'WORKERS',
    },
    maxBootFailures: {
      doc: 'Times in a row that a worker may die before it is ready, until the server gives up.',
      format: 'count',
      default: 5,
    },
    bootTimeoutSeconds: {
      doc: 'Time that a worker has to be ready; then it is killed, and counts as one that could not start. Longer than the slowest model takes to load and to warm up.',
      format: 'positiveSeconds',
      default: 120,
    },
    hangTimeoutMs: {
      doc: 'A worker whose event loop stands still for longer is killed and replaced. A run in a thread that takes longer fails its requests; a fresh thread serves the next ones, and the old one is left to end. Longer than the longest run of a model, and than a pause of garbage collection.',
      format: 'hangTimeout',
      default: 30_000,
    },
    maxHungThreads: {
      doc: 'Threads of one worker that may hang at once: each keeps a core busy and a copy of its model in memory, and nothing but the end of the process can end it. With one more the worker is replaced: its connections move to a new one, and it is killed.',
      format: 'count',
      default: 4,
    },
    moveConnections: {
      doc: 'Whether live connections go on in another worker at reloads and at scaling, and are spread evenly. When not, or where Node cannot do it, they are drained and their clients connect again.',
      format: Boolean,
      default: true,
    },
  },
  models: { doc: 'Models that can be served; see the next table.', format: 'list', default: [] },
  listeners: {
    doc: 'TCP listeners: a list of {host, port, model, tls}. Empty means one: server.port serving server.model.',
    format: 'list',
    default: [],
  },
  onnxRuntime: {
    packageFolder: {
      doc: 'Folder of a package onnxruntime-node that is loaded in place of the one that comes along: for CUDA, or on a platform other than Linux and macOS on ARM. Empty: the one that comes along.',
      format: 'textOrEmpty',
      default: '',
      env: 'ONNX_RUNTIME_PACKAGE_FOLDER',
    },
    disableTelemetry: {
      doc: 'Whether ONNX Runtime is kept from reporting to its makers: it would look up hosts of theirs, send to them, and write under $XDG_CACHE_HOME or ~/.cache. False lets it.',
      format: 'switch',
      default: true,
      env: 'ORT_DISABLE_TELEMETRY',
    },
  },
  redis: {
    url: {
      doc: 'Redis that metrics travel through: redis://[user:password@]host[:port][/db], rediss:// for TLS. Empty keeps them in this process tree, with an aggregator of its own.',
      format: 'redisUrl',
      default: '',
      env: 'REDIS_URL',
      sensitive: true,
    },
    nodes: {
      doc: 'host:port of Sentinels (with redis.masterName) or of some nodes of a Redis Cluster (without it); an IPv6 address in brackets: [::1]:26379. redis.url then gives user, password, database, TLS and the host name that certificates may be for.',
      format: 'hostList',
      default: [],
      env: 'REDIS_NODES',
    },
    masterName: {
      doc: 'Name of the master that the Sentinels of redis.nodes watch.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_MASTER_NAME',
    },
    sentinelUsername: {
      doc: 'User of the Sentinels themselves, where they have an ACL.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_SENTINEL_USERNAME',
    },
    sentinelPassword: {
      doc: 'Password of the Sentinels themselves.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_SENTINEL_PASSWORD',
      sensitive: true,
    },
    sentinelTls: {
      doc: 'Whether Sentinels speak TLS; left out: if redis.url begins with rediss://.',
      format: 'booleanOrNull',
      default: null as never,
      env: 'REDIS_SENTINEL_TLS',
    },
    caFile: {
      doc: 'PEM file with the certificates to trust when Redis is reached by TLS. Empty: those that Node trusts. It is read again for each connection.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_CA_FILE',
    },
    certFile: {
      doc: 'PEM file with the certificate to show to a Redis that wants one (tls-auth-clients). Empty: none.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_CERT_FILE',
    },
    keyFile: {
      doc: 'PEM file with the key of redis.certFile, not encrypted.',
      format: 'textOrEmpty',
      default: '',
      env: 'REDIS_KEY_FILE',
    },
    keyPrefix: { doc: 'First part of all keys in Redis.', format: 'label', default: 'mltcp' },
    connectTimeoutMs: { doc: 'Time to connect to Redis before the next attempt.', format: 'interval', default: 2000 },
    commandTimeoutMs: {
      doc: 'Time for Redis to answer before its connection counts as lost.',
      format: 'interval',
      default: 1000,
    },
    checkIntervalMs: {
      doc: 'How often each connection to Redis must prove that it works: that somebody answers, and takes writes. One that cannot is replaced; what is gone without a word is noticed after this time and redis.commandTimeoutMs.',
      format: 'interval',
      default: 1000,
    },
  },
  http: {
    host: {
      doc: 'Address of the aggregator (metrics, WebSocket, Socket.IO). Anything but loopback opens it to the network.',
      format: 'text',
      default: '127.0.0.1',
      env: 'HTTP_HOST',
    },
    port: { doc: 'Port of the aggregator.', format: 'portNumber', default: 8080, env: 'HTTP_PORT' },
    token: {
      doc: 'What clients of the aggregator must show: `Authorization: Bearer …`; the page asks for it. Probes need none. Empty: all that can reach it may look.',
      format: 'tokenOrEmpty',
      default: '',
      env: 'HTTP_TOKEN',
      sensitive: true,
    },
    tls: tlsSchema('http.tls', 'aggregator', 'HTTP'),
    corsOrigins: {
      doc: 'Origins of other pages that may read the metrics: ["https://ops.example.com"]. Empty: none.',
      format: 'origins',
      default: [],
    },
    basePath: {
      doc: 'Path that a proxy leaves in front of what it passes on, as /ml/. A proxy that takes it away needs nothing here.',
      format: 'basePath',
      default: '/',
    },
    trustedProxies: {
      doc: 'Addresses and CIDR ranges of proxies in front of the aggregator. Of them X-Forwarded-For (limits go by it), X-Forwarded-Host and X-Forwarded-Proto are believed; of nobody else.',
      format: 'addressRanges',
      default: [],
    },
    maxConnections: {
      doc: 'TCP connections to the aggregator at once; one more is closed. Some for each person and scraper that looks.',
      format: 'count',
      default: 1000,
    },
    maxRequestsPerSecond: {
      doc: 'Requests that one client address may make in a second; beyond it they are answered with 429. Many times what a page, a scraper and a script need.',
      format: 'count',
      default: 200,
    },
    maxLiveClients: {
      doc: 'WebSocket and Socket.IO clients of an aggregator at once; one more is refused with 503.',
      format: 'count',
      default: 500,
    },
    requestTimeoutSeconds: {
      doc: 'Time that a client of the aggregator has to send a request, and to send another on the same connection.',
      format: 'positiveSeconds',
      default: 5,
    },
    pingIntervalSeconds: {
      doc: 'How often a WebSocket client is asked whether it is there; one that has not answered by the next time is cut.',
      format: 'positiveSeconds',
      default: 15,
    },
    keepAliveSeconds: {
      doc: 'As server.keepAliveSeconds, for the connections to the aggregator.',
      format: 'keepAlive',
      default: 30,
    },
  },
  metrics: {
    publishIntervalMs: {
      doc: 'How often each worker publishes its counters. Shorter is fresher and costs a little more.',
      format: 'interval',
      default: 250,
    },
    nodeRetentionSeconds: {
      doc: 'A node that an aggregator has not heard of for so long, with Redis there all the time, is folded into one record: totals stay, its own line goes. With Redis only.',
      format: 'positiveSeconds',
      default: 3600,
    },
    slabFolder: {
      doc: 'Where each worker keeps its counts in a file that outlives it (25 KB a model): a folder of this user, in which others may not write. Empty: one in /dev/shm, or else in the temporary folder; none: no files, and a kill may lose the last counts of a worker.',
      format: 'textOrEmpty',
      default: '',
      env: 'SLAB_FOLDER',
    },
    ledgerFolder: {
      doc: 'Where each node keeps what its earlier runs counted (some 5 KB). Empty: with Redis in metrics.slabFolder, without it nowhere. On a disk of the machine it outlives a reboot.',
      format: 'textOrEmpty',
      default: '',
      env: 'LEDGER_FOLDER',
    },
    takeOverSeconds: {
      doc: 'Time after which a server publishes what another node of its cluster left in the same folder (containers that share it) when it was killed; the node itself does so at once when it starts. At most half of metrics.nodeRetentionSeconds, after which it would come too late.',
      format: 'positiveSeconds',
      default: 60,
    },
    leftoverRetentionDays: {
      doc: 'Days after which counts that a killed server left in the folder are removed, where no server of its cluster comes to publish them: memory must not fill up. A week: longer than an outage.',
      format: 'count',
      default: 7,
    },
    streamIntervalMs: {
      doc: 'How often WS /metrics and Socket.IO send the metrics.',
      format: 'interval',
      default: 250,
    },
  },
  otlp: {
    endpoint: {
      doc: 'Base URL of an OpenTelemetry collector (OTLP over HTTP, as http://127.0.0.1:4318) that gets all metrics, and a span for each batch. Empty: none, and nothing of it is loaded.',
      format: 'httpUrl',
      default: '',
      env: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    },
    intervalMs: { doc: 'How often metrics are sent to it.', format: 'interval', default: 10_000 },
    traceRatio: {
      doc: 'Share of the batches that get a span, 0 to 1. Beyond some thousand batches a second spans cost more than they tell.',
      format: 'ratio',
      default: 1,
    },
  },
  control: {
    socket: {
      doc: 'Unix socket that `ml-tcp-server status`, `reload`, `scale` and `drain` speak to, open to this user alone. Empty: one in the temporary folder (in /tmp where that path is too long), which they find by themselves; none: no socket. At most 107 bytes, 103 except on Linux.',
      format: 'textOrEmpty',
      default: '',
      env: 'CONTROL_SOCKET',
    },
  },
  log: {
    level: {
      doc: 'Least severity that is logged: trace, debug, info, warn, error, fatal or silent, in any case.',
      format: 'logLevel',
      default: 'info',
      env: 'LOG_LEVEL',
    },
    format: {
      doc: 'json: a line an event; pretty: for people; auto: pretty on a terminal, json elsewhere.',
      format: 'logFormat',
      default: 'auto',
    },
    maxBufferedKb: {
      doc: 'Log lines in KiB that a process keeps for a reader (of a pipe, a socket, a terminal) that is slower than they come; beyond it they are lost and counted, since nothing may wait for a log. A burst of some thousand lines.',
      format: 'countOrNone',
      default: 256,
    },
    flushTimeoutMs: {
      doc: 'Time that the end of a process may take for lines that still wait for their reader. What reads takes them at once; what has stalled shall not hold a stop.',
      format: 'interval',
      default: 500,
    },
  },
};

export const modelSchema: convict.Schema<ModelEntry> = {
  name: { doc: 'Name in listeners, metrics and logs.', format: 'label', default: '' },
  backend: {
    doc: 'onnx (ONNX Runtime), module (a JavaScript module of yours) or dummy (bytes of X).',
    format: 'backend',
    default: 'onnx',
  },
  path: {
    doc: 'Model file; or folder with a model.onnx (model.mjs for a module); or folder of versions, as NAME/3/model.onnx. A relative path starts at the working directory, else at the folder of this package.',
    format: 'textOrEmpty',
    default: '',
  },
  version: {
    doc: 'Which of the versions is served: latest, or the number of one to pin it.',
    format: 'version',
    default: 'latest',
  },
  execution: {
    doc: "Where it runs: inline (on the worker's event loop: quickest for small models), thread, or auto: measured before the port opens.",
    format: 'execution',
    default: 'auto',
  },
  threads: { doc: 'Threads of each worker, where it runs in threads.', format: 'count', default: 1 },
  inlineLimitMs: {
    doc: 'With auto: a model whose full batch takes longer goes into threads, so that a run never holds the event loop longer than this.',
    format: 'milliseconds',
    default: 2,
  },
  maxBatchSize: {
    doc: 'Rows in one call of the model, at the most. Larger batches gain little and take longer: see Speed.',
    format: 'count',
    default: 256,
  },
  maxQueueDelayMs: {
    doc: 'Time that a batch waits for more rows, from its first; 0: only to the end of the event-loop turn, which loses nothing at low load.',
    format: 'milliseconds',
    default: 0,
  },
  maxQueue: {
    doc: 'Requests of a worker that may wait for this model; one more is refused at once.',
    format: 'count',
    default: 65_536,
  },
  deadlineMs: {
    doc: 'Time from the arrival of a request to its reply; one that cannot be answered in time is dropped before it costs a run. 0: none.',
    format: 'milliseconds',
    default: 5000,
  },
  retryRows: {
    doc: 'Whether a batch that the model throws for is run again row by row, once, so that one poisonous row fails alone.',
    format: Boolean,
    default: true,
  },
  batchTolerance: {
    doc: "By what share of its size a number of an ONNX model's answer may differ between a run of its own and one that it shares with other requests, or exact: not by a bit. A model that differs by more runs one request at a time. See Batching for how the default was chosen.",
    format: 'batchTolerance',
    default: 1e-4,
  },
  responseSize: {
    doc: 'Bytes of X that this dummy answers with; by default server.responseSize.',
    format: 'countOrNull',
    default: null,
  },
  settings: { doc: 'Handed to the module as it is.', format: 'settingsObject', default: {} },
  session: {
    intraOpNumThreads: {
      doc: 'Threads of ONNX Runtime within one run; more than 1 pays only when there are fewer workers than cores.',
      format: 'count',
      default: 1,
    },
    interOpNumThreads: { doc: 'Threads of ONNX Runtime across branches of a model.', format: 'count', default: 1 },
    executionProviders: {
      doc: 'Execution providers of ONNX Runtime, in order of preference.',
      format: 'list',
      default: ['cpu'],
    },
    graphOptimizationLevel: {
      doc: 'disabled, basic, extended or all.',
      format: 'optimization',
      default: 'all',
    },
  },
};

export const listenerSchema: convict.Schema<ListenerEntry> = {
  host: { doc: 'Address; empty means server.host.', format: 'textOrEmpty', default: '' },
  port: { doc: 'Port.', format: 'portNumber', default: 8081 },
  model: { doc: 'Name of the model that it serves.', format: 'label', default: '' },
  tls: {
    doc: 'Whether clients must speak TLS; left out: if server.tls.certFile is set.',
    format: 'booleanOrNull',
    default: null as never,
  },
};

/** Keeps convict from reading the environment and the flags of this process by itself. */
const outside = { env: {}, args: [] };

export type Holder<T> = convict.Config<T>;
export type Schema<T> = convict.Schema<T>;

/** Holds values for `schema`, at first its defaults; it coerces what is set and validates. */
export function holderFor<T>(schema: Schema<T>): Holder<T> {
  return convict(schema, outside);
}
