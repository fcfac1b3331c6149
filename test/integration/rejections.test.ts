// Why requests and connections were refused: what operators are told when clients get nothing but an empty frame.

import { rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import type { ClusterRejection } from '#src/aggregator/rejections.js';
import { modelInferRequest } from '#src/protocol/oip/messages.js';
import { encode } from '#src/protocol/protobuf/messages.js';
import { CallClient, floatsRequest, textsRequest } from '../support/call-client.js';
import { Authority } from '../support/certificates.js';
import { startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { ModelsServer } from '../support/models-server.js';
import { endProcesses, root } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { RedisServer } from '../support/redis-server.js';
import { type LogLine, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const module = (name: string): string => `${root}test/support/models/${name}.mjs`;
const mark = 'bytes-of-a-payload';

async function rejectionsOf(url: string, token = ''): Promise<readonly ClusterRejection[]> {
  const response = await fetch(`${url}/api/rejections`, { headers: { authorization: `Bearer ${token}` } });
  return ((await response.json()) as { rejections: readonly ClusterRejection[] }).rejections;
}

/** The newest one of this reason, once it is there. */
function told(url: string, reason: string, token = ''): Promise<ClusterRejection> {
  return until(`the reason ${reason}`, async () =>
    (await rejectionsOf(url, token)).find((rejection) => rejection.reason === reason),
  ) as Promise<ClusterRejection>;
}

/** Opens a connection that ends without having been served. */
async function turnedAway(port: number, localAddress = '127.0.0.1'): Promise<void> {
  const socket = createConnection({ host: '127.0.0.1', port, localAddress }).on('error', () => {});
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
}

/** The `grpc-message` of the answer to one ModelInfer. */
async function grpcMessage(port: number, message: Buffer): Promise<string> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({
    ':method': 'POST',
    ':path': '/inference.GRPCInferenceService/ModelInfer',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const length = Buffer.alloc(5);
  length.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([length, message]));
  const text = await new Promise<string>((resolve) => {
    const look = (headers: IncomingHttpHeaders): void => {
      const found = headers['grpc-message'];
      if (typeof found === 'string') resolve(decodeURIComponent(found));
    };
    stream.on('response', look).on('trailers', look).resume();
  });
  session.destroy();
  return text;
}

describe('why it was refused', function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  const gate = join(folder, 'gate');
  afterEach(async () => {
    rmSync(gate, { force: true });
    await endProcesses();
  });

  it('is told of each kind of request that has no reply: of whom, to which model, why, and without what it sent', async () => {
    const held = { backend: 'module', path: module('gate'), execution: 'thread', settings: { gate }, maxBatchSize: 1 };
    const server = new ModelsServer(
      folder,
      [
        { name: 'digits', backend: 'onnx', path: `${root}config/models/digits` },
        { name: 'echo', backend: 'module', path: module('echo') },
        { name: 'full', ...held, maxQueue: 2, deadlineMs: 0 },
        { name: 'late', ...held, deadlineMs: 200 },
      ],
      {
        metrics: { publishIntervalMs: 100 },
        log: { level: 'debug' },
        server: { maxPayloadSizeKb: 1, payloadTimeoutSeconds: 1 },
      },
    );
    const url = await server.url();
    const [pid] = await server.workerPids();
    expect(await rejectionsOf(url)).to.deep.equal([]);
    const digits = await server.client('digits');
    digits.send(Buffer.from(mark), Buffer.from(`${mark}${mark}`));
    await digits.replied(2);
    const before = Date.now() / 1000;
    const bad = await told(url, 'BAD_INPUT');
    expect(bad).to.include({ client: '127.0.0.1', protocol: 'frames', model: 'digits', worker: 0, pid });
    expect(bad.detail).to.match(/^expected 256 bytes \(onnx .*float32\[64\].*\); got 18 bytes$/);
    expect(bad.t).to.be.within(before - 10, before + 10);

    const echo = await server.client('echo');
    echo.send(Buffer.from('bad'));
    await echo.replied(1);
    expect(await told(url, 'INFERENCE_FAILED')).to.include({ model: 'echo', detail: 'bad row' });

    const large = await server.client('echo');
    large.sendBytes(Buffer.from([0, 0, 4, 1]));
    await large.serverEnded();
    expect((await told(url, 'PAYLOAD_TOO_LARGE')).detail).to.match(/announces 1025 bytes; 1024 are allowed/);

    writeFileSync(gate, '');
    const full = await server.client('full');
    full.send(Buffer.from(mark));
    await server.modelWhen('full', ({ requests, queued }) => requests === 1 && queued === 0);
    full.send(...Array.from({ length: 10 }, () => Buffer.from(mark)));
    const late = await server.client('late');
    late.send(Buffer.from(mark));
    await server.modelWhen('late', ({ requests, queued }) => requests === 1 && queued === 0);
    const later = await server.client('late');
    later.send(Buffer.from(mark));
    await later.replied(1);
    rmSync(gate);
    await Promise.all([full.replied(11), late.replied(1)]);
    expect((await told(url, 'QUEUE_FULL')).detail).to.match(/^as many wait as may \(maxQueue\); .* in \d+ ms$/);
    expect((await told(url, 'DEADLINE_EXCEEDED')).detail).to.match(/^it waited for \d{3,5} ms without a run/);

    const slow = await server.client('echo');
    slow.sendBytes(Buffer.concat([Buffer.from([0, 0, 0, 100]), Buffer.from(mark)]));
    await slow.serverEnded();
    expect((await told(url, 'PAYLOAD_TIMEOUT')).detail).to.equal(
      'of a frame, 22 bytes came in time; 82 more were announced',
    );

    const all = await rejectionsOf(url);
    expect(all.map(({ t }) => t)).to.deep.equal(all.map(({ t }) => t).toSorted((a, b) => b - a));
    expect(JSON.stringify(all)).to.not.include(mark);
    const lines = server.log.filter(({ msg }) => msg === 'refused');
    expect(new Set(lines.map(({ reason }) => reason))).to.deep.equal(new Set(all.map(({ reason }) => reason)));
    for (const line of lines) expect(line).to.include({ level: 'debug', client: '127.0.0.1' });
    expect(server.output).to.not.include(mark);
  });

  it('is told of the same kinds by calls, HTTP and gRPC, with the words that their clients get', async () => {
    const file = join(folder, 'open.json');
    const models = [
      { name: 'digits', backend: 'onnx', path: `${root}config/models/digits` },
      { name: 'echo', backend: 'module', path: module('echo') },
    ];
    const listeners = ['calls', 'open'].map((protocol) => ({ host: '127.0.0.1', port: 0, protocol }));
    writeFileSync(file, JSON.stringify({ models, listeners, cluster: { workers: 1 } }));
    const server = new TestServer({ args: ['--config', file], hasListeners: true });
    const { tcp } = (await server.event('ready')) as LogLine & { tcp: readonly string[] };
    const [callsPort, openPort] = tcp.map((text) => Number(/:(\d+) /.exec(text)?.[1])) as [number, number];
    const url = await server.url();

    const calls = await CallClient.connect(callsPort);
    const floats = Float32Array.from({ length: 3 }, () => 1234.5);
    const replies = [
      await calls.ask({ infer: floatsRequest('digits', 'pixels', [1, 3], floats) }),
      await calls.ask({ infer: floatsRequest('nobody', 'x', [1, 3], floats) }),
      await calls.ask({ infer: textsRequest('echo', ['bad']) }),
    ];
    const answers: { error: string }[] = [];
    for (const [model, body] of [
      ['digits', { inputs: [{ name: 'pixels', datatype: 'FP32', shape: [1, 3], data: [1234.5, 1234.5, 1234.5] }] }],
      ['nobody', { inputs: [] }],
    ] as const) {
      const target = `http://127.0.0.1:${openPort}/v2/models/${model}/infer`;
      const answer = await fetch(target, { method: 'POST', body: JSON.stringify(body) });
      answers.push((await answer.json()) as { error: string });
    }
    const grpc = await grpcMessage(openPort, encode(modelInferRequest, { model_name: 'digits' }));

    await until('all of them', async () => (await rejectionsOf(url)).length >= 6);
    const found = await rejectionsOf(url);
    const told = (protocol: string) =>
      Object.fromEntries(
        found
          .filter((rejection) => rejection.protocol === protocol)
          .map(({ client, model, reason, detail }) => [`${client} ${model} ${reason}`, detail]),
      );
    expect(told('calls')).to.deep.equal({
      '127.0.0.1 digits BAD_INPUT': replies[0]?.message,
      '127.0.0.1 nobody MODEL_NOT_FOUND': replies[1]?.message,
      '127.0.0.1 echo INFERENCE_FAILED': replies[2]?.message,
    });
    expect(told('http')).to.deep.equal({
      '127.0.0.1 digits BAD_INPUT': answers[0]?.error,
      '127.0.0.1 nobody MODEL_NOT_FOUND': answers[1]?.error,
    });
    expect(told('grpc')).to.deep.equal({ '127.0.0.1 digits BAD_INPUT': grpc });
    expect(replies[0]?.message).to.include('pixels');
    expect(JSON.stringify(found)).to.not.include('1234.5');
  });

  it('is told of connections: too many, not allowed, without the secret; to those who may look', async () => {
    const server = new TestServer({
      env: {
        ...{ MODEL: 'dummy', WORKERS: '1', HTTP_TOKEN: 'open-sesame', SHARED_SECRET: 'the-secret' },
        ...{ MAX_CONNECTIONS: '1', DENY: '127.0.0.9' },
      },
    });
    const [url, port] = [await server.url(), await server.port()];
    const wrong = await RawClient.connect(port);
    wrong.send(Buffer.from('not-the-secret'));
    await wrong.serverEnded();
    const token = 'open-sesame';
    const secret = await told(url, 'WRONG_SECRET', token);
    expect(secret).to.include({ client: '127.0.0.1', protocol: 'frames', model: 'dummy' });
    expect(secret.detail).to.not.include('the-secret');
    wrong.destroy();

    await turnedAway(port, '127.0.0.9');
    const address = await told(url, 'ADDRESS_NOT_ALLOWED', token);
    expect(address).to.include({ client: '127.0.0.9', protocol: 'tcp' });
    expect(address.detail).to.include('server.deny');

    await until('a place', async () => {
      const client = await RawClient.connect(port);
      client.send(Buffer.from('the-secret'), Buffer.from('x'));
      return Promise.race([
        client.replied(1).then(() => client.replies[0]?.length !== 0),
        client.ended.then(() => false),
      ]);
    });
    await turnedAway(port);
    const many = await told(url, 'TOO_MANY_CONNECTIONS', token);
    expect(many).to.include({ client: '127.0.0.1', protocol: 'tcp' });
    expect(many.detail).to.include('server.maxConnections');

    const refused = await fetch(`${url}/api/rejections`);
    expect(refused.status).to.equal(401);
    expect(await refused.text()).to.not.include('127.0.0.');
    expect(server.count('refused'), 'debug is off').to.equal(0);
  });

  it('is told of TLS that failed, with what OpenSSL says', async () => {
    const authority = new Authority();
    const { certFile, keyFile } = authority.issue('server');
    const server = new TestServer({
      env: {
        ...{ MODEL: 'dummy', WORKERS: '1', SERVER_TLS_CERT_FILE: certFile, SERVER_TLS_KEY_FILE: keyFile },
        SERVER_TLS_MIN_VERSION: 'TLSv1.3',
      },
    });
    const port = await server.port();
    const socket = connectTls({ host: '127.0.0.1', port, ca: authority.cert, maxVersion: 'TLSv1.2' });
    await new Promise((resolve) => socket.once('error', resolve));
    const { client, protocol, detail } = await told(await server.url(), 'TLS_HANDSHAKE_FAILED');
    expect([client, protocol]).to.deep.equal(['127.0.0.1', 'tls']);
    expect(detail).to.match(/unsupported protocol/i);
  });

  it('is told of all nodes, by each aggregator, also by workers that have died since', async () => {
    const redis = await RedisServer.start();
    const digits = { REDIS_URL: redis.url, MODEL: 'digits' };
    const nodes = ['a', 'b'].map((name) => startNode({ ...digits, NODE_NAME: name, WORKERS: '1' }));
    const aggregators = await Promise.all([1, 2].map(() => TestAggregator.start({ REDIS_URL: redis.url })));
    for (const node of nodes) {
      const client = await RawClient.connect(await node.port());
      client.send(Buffer.from('x'));
      await client.replied(1);
    }
    const both = (url: string): Promise<unknown> =>
      until('the reasons of both nodes', async () => {
        const found = await rejectionsOf(url);
        return new Set(found.map(({ node }) => node)).size === 2;
      });
    for (const { url } of aggregators) await both(url);
    const [victim] = nodes as [TestServer, TestServer];
    const { url } = aggregators[0] as TestAggregator;
    const { workers } = (await aggregators[0]?.when('both workers', (metrics) => metrics.workers.length === 2)) ?? {};
    process.kill(workers?.find(({ node }) => node === 'a')?.pid as number, 'SIGKILL');
    await victim.event('worker replaced');
    await both(url);
  });

  it('is a sample in a flood, which stays small: in the log, in memory, and in what is published', async () => {
    const server = new ModelsServer(
      folder,
      [{ name: 'digits', backend: 'onnx', path: `${root}config/models/digits` }],
      {
        log: { level: 'debug' },
      },
    );
    const url = await server.url();
    const clients = await Promise.all(Array.from({ length: 4 }, () => server.client('digits')));
    const burst = Array.from({ length: 5000 }, () => Buffer.from('x'));
    const flood = async (rounds: number): Promise<void> => {
      for (let i = 0; i < rounds; i++) {
        const before = clients.map(({ replies }) => replies.splice(0).length);
        expect(before.every((count) => count === 0 || count === 5000)).to.equal(true);
        for (const client of clients) client.send(...burst);
        await Promise.all(clients.map((client) => client.replied(5000)));
      }
    };
    const begun = performance.now();
    await flood(3);
    const { workers } = await server.metricsWhen('the first', ({ total_requests }) => total_requests === 60_000);
    await flood(12);
    const after = await server.metricsWhen('all of it', ({ total_requests }) => total_requests === 300_000);
    expect(after.models[0]?.refused.bad_input).to.equal(300_000);
    const lines = server.log.filter(({ msg }) => msg === 'refused');
    expect(lines.length).to.be.within(5, 6 + (performance.now() - begun) / 1000);
    const leftOut = lines.reduce((sum, line) => sum + Number(line.leftOut), 0);
    expect(leftOut).to.be.at.most(300_000);
    expect(await rejectionsOf(url)).to.have.lengthOf(1);
    const grown = (after.workers[0]?.memory ?? 0) - (workers[0]?.memory ?? 0);
    expect(grown / 2 ** 20).to.be.below(64);
  });
});
