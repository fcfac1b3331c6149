// What may be done to a server from outside, and what protects it: the table of threats in config/README.md. A test
// checks that each setting, metric and test exists.

/**
 * `counter`: a metric, with the label that shows it; `test`: part of the title of a test that fails without the limit.
 */
export const threats = [
  {
    threat: 'more connections than the machine can serve; connecting and resetting in a loop',
    keys: ['server.maxConnections'],
    counter: 'mltcp_connections_refused_total{reason="limit"}',
    test: 'in a storm beyond the limit tells the first, closes the others, serves who is there, and counts all',
  },
  {
    threat: 'one client that takes all places',
    keys: ['server.maxConnectionsPerAddress'],
    counter: 'mltcp_connections_refused_total{reason="address_limit"}',
    test: 'so many connections of one address, over all workers, and gives places back',
  },
  {
    threat: 'a storm of new connections',
    keys: ['server.maxNewConnectionsPerSecond'],
    counter: 'mltcp_connections_refused_total{reason="rate"}',
    test: 'so many new connections a second',
  },
  {
    threat: 'clients from where none should be',
    keys: ['server.allow', 'server.deny'],
    counter: 'mltcp_connections_refused_total{reason="address"}',
    test: 'who is allowed and not denied',
  },
  {
    threat: 'clients that nobody knows; listening in',
    keys: ['server.tls.certFile', 'server.tls.caFile', 'server.tls.minVersion'],
    counter: 'mltcp_connections_refused_total{reason="handshake"}',
    test: 'with client certificates serves those that the authority has signed, and no other',
  },
  {
    threat: 'clients that nobody knows, where there is no TLS',
    keys: ['server.sharedSecret'],
    counter: 'mltcp_connections_closed_total{reason="secret"}',
    test: 'who knows the shared secret, also after a reload in the middle of a frame',
  },
  {
    threat: 'a frame that announces gigabytes',
    keys: ['server.maxPayloadSizeKb'],
    counter: 'mltcp_connections_closed_total{reason="payload_too_large"}',
    test: 'refuses a frame over the limit after answering those before it, and closes',
  },
  {
    threat: 'slow senders, a byte a second',
    keys: ['server.payloadTimeoutSeconds'],
    counter: 'mltcp_connections_closed_total{reason="payload_timeout"}',
    test: 'closes when a frame is not finished in time, but not between frames',
  },
  {
    threat: 'the same before it is clear what they speak, or saying nothing where clients speak first',
    keys: ['server.payloadTimeoutSeconds'],
    counter: 'mltcp_connections_closed_total{reason="payload_timeout"}',
    test: 'runs from the beginning where clients speak first, and where a secret is asked for',
  },
  {
    threat: 'bytes of a protocol that a port does not serve',
    keys: ['server.protocol'],
    counter: 'mltcp_connections_closed_total{reason="protocol"}',
    test: 'is closed and counted when its listener does not serve what it begins',
  },
  {
    threat: 'connections that say nothing',
    keys: ['server.idleTimeoutSeconds'],
    counter: 'mltcp_connections_closed_total{reason="idle_timeout"}',
    test: 'closes when it is idle for longer than allowed',
  },
  {
    threat: 'clients that never read their replies',
    keys: ['server.maxWriteBufferKb', 'server.writeTimeoutSeconds'],
    counter: 'mltcp_connections_closed_total{reason="write_timeout"}',
    test: 'is cut when its client takes nothing of its replies for longer than allowed',
  },
  {
    threat: 'clients that are gone without a word',
    keys: ['server.keepAliveSeconds', 'http.keepAliveSeconds'],
    counter: 'mltcp_connections_closed_total{reason="keep_alive"}',
    test: 'gives its place back when the kernel has asked for it in vain',
  },
  {
    threat: 'pipelines without end',
    keys: ['server.maxInFlightPerConnection'],
    counter: 'mltcp_connection_pauses_total{reason="in_flight"}',
    test: 'stops reading at the limit of requests in flight, and goes on when replies have left',
  },
  {
    threat: 'memory filled from many connections at once: half frames, large frames, replies not taken',
    keys: ['server.maxBufferedMb'],
    counter: 'mltcp_connection_pauses_total{reason="memory"}',
    test: 'stops reading while there is no memory for more, and goes on when there is',
  },
  {
    threat: 'more requests than a model can serve',
    keys: ['models[].maxQueue', 'models[].deadlineMs'],
    counter: 'mltcp_requests_refused_total',
    test: 'of three times what a model can serve: each request has its answer, in time, and memory stays',
  },
  {
    threat: 'one client that keeps a model busy with thousands of requests',
    keys: ['server.maxInFlightPerConnection'],
    counter: 'mltcp_model_predicted_wait_seconds',
    test: 'wait for one that sends much no longer than for a turn of it: a light client is run within the bound',
  },
  {
    threat: 'a process that may open no more files',
    keys: [],
    counter: 'mltcp_connections_refused_total{reason="descriptors"}',
    test: 'refuses connections with a clear log, serves those it has, and recovers',
  },
  {
    threat: 'strangers that look at the metrics, the page, the live feeds',
    keys: ['http.host', 'http.token', 'http.tls.certFile'],
    counter: 'mltcp_http_refusals_total{reason="token"}',
    test: 'is asked for on every way to the metrics, and a wrong one is none',
  },
  {
    threat: 'pages of other sites in the browser of somebody who may look',
    keys: ['http.corsOrigins'],
    counter: 'mltcp_http_refusals_total{reason="origin"}',
    test: 'is open to pages of other origins only when they are named',
  },
  {
    threat: 'floods of HTTP requests, and large ones',
    keys: ['http.maxRequestsPerSecond', 'http.maxConnections'],
    counter: 'mltcp_http_refusals_total{reason="rate"}',
    test: 'refuses what is too large, too long or too often, and serves on',
  },
  {
    threat: 'HTTP clients that send slowly, or nothing',
    keys: ['http.requestTimeoutSeconds'],
    counter: 'mltcp_http_refusals_total{reason="timeout"}',
    test: 'cuts who sends slowly, or nothing, and who is one too many',
  },
  {
    threat: 'live clients without end; those that do not read, or are gone',
    keys: ['http.maxLiveClients', 'http.pingIntervalSeconds'],
    counter: 'mltcp_http_refusals_total{reason="live_clients"}',
    test: 'drops a WebSocket that does not answer, and one that does not read, instead of buffering for it',
  },
  {
    threat: 'HTTP on a listener: requests that could be read in two ways (smuggling), endless heads, other protocols',
    keys: ['server.maxHeaderKb'],
    counter: 'mltcp_requests_unroutable_total{reason="malformed"}',
    test: 'what is no HTTP, or could be read in two ways, and nothing after it',
  },
  {
    threat: 'the same: a few compressed bytes that become gigabytes; bodies that are announced small and are not',
    keys: ['server.maxPayloadSizeKb', 'server.maxJsonKb'],
    counter: 'mltcp_requests_refused_total',
    test: 'never makes more of a few bytes than a body may have',
  },
  {
    threat: 'the same: JSON that takes a worker long to read',
    keys: ['server.maxJsonKb'],
    counter: 'mltcp_requests_refused_total',
    test: 'JSON beyond its own limit, although binary tensors behind it may be larger',
  },
  {
    threat: 'the same: heads and bodies that come a byte a second',
    keys: ['server.payloadTimeoutSeconds'],
    counter: 'mltcp_connections_closed_total{reason="payload_timeout"}',
    test: 'how long a head and a body may take, with 408',
  },
  {
    threat: 'the same: connections that are kept and not used',
    keys: ['server.httpIdleSeconds'],
    counter: 'mltcp_connections_closed_total{reason="idle_timeout"}',
    test: 'how long a client may be silent, but not how long a model takes',
  },
  {
    threat: 'the same: pipelining without end',
    keys: ['server.maxInFlightPerConnection'],
    counter: 'mltcp_connection_pauses_total{reason="in_flight"}',
    test: 'how many requests of a connection wait, without losing any',
  },
  {
    threat: 'the same: answers that nobody reads',
    keys: ['server.writeTimeoutSeconds', 'server.maxWriteBufferKb'],
    counter: 'mltcp_connections_closed_total{reason="write_timeout"}',
    test: 'how long a client may leave its answers unread',
  },
  {
    threat: 'bytes that are no protocol at all',
    keys: [],
    counter: 'mltcp_frames_truncated_total',
    test: 'survives random bytes',
  },
  {
    threat: 'a full disk under the logs',
    keys: [],
    counter: null,
    test: 'stops neither inference nor reloads',
  },
  {
    threat: 'a library that reports to its makers',
    keys: ['onnxRuntime.disableTelemetry'],
    counter: null,
    test: 'of a server with models inline and in threads, a reload, and all clients',
  },
  {
    threat: 'secrets in what people see',
    keys: ['server.sharedSecret', 'http.token', 'redis.url', 'redis.sentinelPassword'],
    counter: null,
    test: 'are in no log, error, metric, page, config output or process title',
  },
];
