// The TCP listeners: who may connect, how requests are framed, and what each connection may ask for.

import { type SettingsOf, setting } from '../setting.js';
import { tlsSettings } from './tls.js';

export const server = {
  host: setting({
    doc: 'Address of the TCP listener. Anything but loopback opens it to the network.',
    format: 'text',
    default: '127.0.0.1',
    env: 'HOST',
  }),
  port: setting({
    doc: 'Port of the TCP listener, when `listeners` is empty.',
    format: 'portNumber',
    default: 8081,
    env: 'PORT',
  }),
  protocol: setting({
    doc: 'What clients of server.port speak, when `listeners` is empty. frames: payloads of server.model. calls: calls of the Open Inference Protocol on frames. open: the same protocol over HTTP and gRPC, on one port. auto: all of these, told apart by the first bytes of a connection; secrets, limits and firewalls tell ports apart better.',
    format: 'listenerProtocol',
    default: 'frames',
    env: 'PROTOCOL',
  }),
  model: setting({
    doc: 'Name of the model behind server.port, when `listeners` is empty. Where requests name their models, it is the one of those that name none. Left out: digits, or the only model where config lists another.',
    format: 'label',
    default: 'digits',
    env: 'MODEL',
  }),
  responseSize: setting({
    doc: 'Bytes of X that a dummy model answers with, where it has no responseSize of its own.',
    format: 'countOrNone',
    default: 5,
    env: 'RESPONSE_SIZE',
  }),
  lengthFieldSize: setting({
    doc: 'Bytes of the big-endian length in front of each payload, both ways: 2, 4 or 8.',
    format: 'lengthField',
    default: 4,
    env: 'LENGTH_FIELD_SIZE',
  }),
  maxConnections: setting({
    doc: 'Connections that the whole machine serves at once; one more is answered with an empty frame and closed. In a storm a hundred a second are told so, the others only closed. A busy machine learns late that connections are gone: leave room for clients that start again.',
    format: 'count',
    default: 100,
    env: 'MAX_CONNECTIONS',
  }),
  maxConnectionsPerAddress: setting({
    doc: 'Connections that one client address may have at once (of IPv6: a /64); 0: no limit of its own, since clients behind one proxy share an address.',
    format: 'countOrNone',
    default: 0,
    env: 'MAX_CONNECTIONS_PER_ADDRESS',
  }),
  maxNewConnectionsPerSecond: setting({
    doc: 'Connections that the machine takes in a second; 0: no limit, since after an outage a whole fleet connects at once.',
    format: 'countOrNone',
    default: 0,
  }),
  allow: setting({
    doc: 'Addresses and CIDR ranges that may connect: ["10.0.0.0/8", "fd00::/8"]. Empty: all that can reach the listener.',
    format: 'addressRanges',
    default: [],
    env: 'ALLOW',
  }),
  deny: setting({
    doc: 'Addresses and CIDR ranges that may not connect, even if `allow` has them.',
    format: 'addressRanges',
    default: [],
    env: 'DENY',
  }),
  sharedSecret: setting({
    doc: 'What the payload of the first frame of each connection must be, for clients without TLS certificates; it has no reply. Empty: no secret is asked for. It is no secret to who can read the traffic: use TLS beyond machines you trust.',
    format: 'secretOrEmpty',
    default: '',
    env: 'SHARED_SECRET',
    sensitive: true,
  }),
  tls: tlsSettings('server.tls', 'TCP listeners', 'SERVER'),
  maxPayloadSizeKb: setting({
    doc: 'Largest payload of a request in KiB; a frame that announces more is refused unread.',
    format: 'count',
    default: 1024,
    env: 'MAX_PAYLOAD_SIZE_KB',
  }),
  maxJsonKb: setting({
    doc: 'Largest JSON of a request over HTTP in KiB; binary tensors behind it count to server.maxPayloadSizeKb alone. It takes many times as long to read as the same bytes in binary; beyond 128 KiB a thread reads it, one request after the other.',
    format: 'count',
    default: 1024,
    env: 'MAX_JSON_KB',
  }),
  maxHeaderKb: setting({
    doc: 'Largest header of a request over HTTP and gRPC in KiB. As Node has it: more than clients and proxies send with cookies and tokens.',
    format: 'count',
    default: 16,
  }),
  payloadTimeoutSeconds: setting({
    doc: 'Time that a client has to finish a frame it began, so that slow senders cannot hold connections.',
    format: 'positiveSeconds',
    default: 30,
    env: 'PAYLOAD_TIMEOUT_SECONDS',
  }),
  idleTimeoutSeconds: setting({
    doc: 'Time after which a connection that asks nothing is closed; 0 keeps it, since a quiet client is no error.',
    format: 'seconds',
    default: 0,
  }),
  httpIdleSeconds: setting({
    doc: 'Time after which an HTTP connection without a request is closed. Longer than proxies keep theirs (nginx and AWS: 60), so that they close first: a request that a close meets on its way is lost.',
    format: 'positiveSeconds',
    default: 75,
  }),
  writeTimeoutSeconds: setting({
    doc: 'Time that a client may take nothing of the replies that wait for it; then it is cut, since it holds memory and nobody reads at its end. Longer than a network is away for a moment.',
    format: 'positiveSeconds',
    default: 60,
  }),
  keepAliveSeconds: setting({
    doc: 'Silence on a connection after which the kernel asks whether its client is still there (TCP keepalive); one that does not answer for 10 seconds is closed. Shorter than firewalls, NATs and balancers remember a silent connection. 0: never, then a client that is gone without a word keeps its place.',
    format: 'keepAlive',
    default: 30,
  }),
  acceptTimeoutSeconds: setting({
    doc: 'Time that a new connection waits for a worker that takes it, when none lives or all have enough to do; then it is closed. Longer than a worker that died takes to be replaced.',
    format: 'positiveSeconds',
    default: 10,
  }),
  maxInFlightPerConnection: setting({
    doc: 'Requests of one connection that may wait for replies; beyond it the server stops reading, and TCP slows the client down.',
    format: 'count',
    default: 1024,
  }),
  maxWriteBufferKb: setting({
    doc: 'Replies in KiB that may wait for a client that does not read them; beyond it the server stops reading from it.',
    format: 'count',
    default: 1024,
  }),
  maxBufferedMb: setting({
    doc: 'MiB that all connections of one worker may hold together: frames that are not whole, requests that wait, replies that are not taken. Beyond it those that hold more than an even share are not read from. See Security for the memory that it makes a worker need.',
    format: 'count',
    default: 128,
  }),
  drainTimeoutSeconds: setting({
    doc: 'Time that requests in flight have to be answered when the server stops; connections that are left are cut.',
    format: 'positiveSeconds',
    default: 10,
  }),
};

export type ServerSettings = SettingsOf<typeof server>;
