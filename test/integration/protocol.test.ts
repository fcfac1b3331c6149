// The TCP port of a real server, against clients that are broken, hostile, slow or in a hurry.

import { expect } from 'chai';
import { maxToldPerSecond } from '#src/primary/connections/admission-control.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const dummy = { MODEL: 'dummy', RESPONSE_SIZE: '5' };

describe('the TCP port', () => {
  afterEach(endProcesses);

  for (const size of [2, 4, 8] as const) {
    it(`answers pipelined requests in order with length fields of ${size} bytes`, async () => {
      const server = new TestServer({ env: { LENGTH_FIELD_SIZE: String(size) }, args: ['--model', 'dummy'] });
      const client = await RawClient.connect(await server.port(), size);
      client.send(Buffer.from('a'), Buffer.alloc(0), Buffer.alloc(1000));
      expect((await client.replied(3)).map(String)).to.deep.equal(['XXXXX', 'XXXXX', 'XXXXX']);
      client.end();
      await client.serverEnded();
    });
  }

  it('gives the digits model its rows and returns what the model says, in order', async () => {
    const server = new TestServer();
    const client = await RawClient.connect(await server.port());
    const { digitChecks } = await import('#src/tools/simulate/checks.js');
    const checks = digitChecks().slice(0, 100);
    client.send(...checks.map(({ payload }) => payload));
    const replies = await client.replied(100);
    expect(checks.map((check, i) => check.judge(replies[i] as Buffer).kind)).to.deep.equal(checks.map(() => 'right'));
    client.send(Buffer.alloc(255), checks[0]?.payload as Buffer, Buffer.alloc(257));
    expect((await client.replied(103)).slice(100).map(({ length }) => length)).to.deep.equal([0, 40, 0]);
    const metrics = await server.metricsWhen('103 requests', ({ total_requests }) => total_requests === 103);
    expect(metrics).to.include({ errors: 2, inference_errors: 0, audit_imbalance: 0 });
    expect(metrics.models[0]?.refused.bad_input).to.equal(2);
  });

  it('keeps well-behaved clients served, right and counted through everything that is wrong', async function () {
    this.timeout(60_000);
    const limitKb = 64;
    const server = new TestServer({
      env: { ...dummy, MAX_PAYLOAD_SIZE_KB: String(limitKb), PAYLOAD_TIMEOUT_SECONDS: '1' },
    });
    const port = await server.port();
    const good = await RawClient.connect(port);
    let sent = 0;
    const stillServed = async (): Promise<void> => {
      good.send(Buffer.from(`request ${++sent}`));
      expect(String((await good.replied(sent)).at(-1))).to.equal('XXXXX');
    };
    const header = (hex: string): Buffer => Buffer.from(hex, 'hex');
    let requests = 0;
    let tooLarge = 0;

    // Lengths beyond the limit get an empty frame, then the end.
    for (const bytes of [
      header('00010001'),
      header('ffffffff'),
      Buffer.concat([header('7fffffff'), Buffer.alloc(100_000)]),
    ]) {
      const client = await RawClient.connect(port);
      client.sendBytes(bytes);
      expect((await client.replied(1)).map(({ length }) => length)).to.deep.equal([0]);
      await client.serverEnded();
      client.end();
      await client.closed;
      requests++;
      tooLarge++;
      await stillServed();
    }

    // A length of 0 and one of exactly the limit are requests like any other.
    const edge = await RawClient.connect(port);
    edge.send(Buffer.alloc(0), Buffer.alloc(limitKb * 1024));
    await edge.replied(2);
    requests += 2;

    // 10,000 frames in one write.
    edge.send(...Array.from({ length: 10_000 }, (_, i) => Buffer.from(String(i))));
    await edge.replied(10_002);
    requests += 10_000;
    edge.end();
    await edge.serverEnded();
    await stillServed();

    // Half a header, and half a payload, then FIN: no reply, then the end.
    for (const bytes of [header('0000'), header('0000000a0102')]) {
      const client = await RawClient.connect(port);
      client.sendBytes(bytes);
      client.end();
      await client.serverEnded();
      expect(client.replies).to.deep.equal([]);
      await stillServed();
    }

    // Half a payload and silence: the payload timeout.
    const slow = await RawClient.connect(port);
    slow.sendBytes(header('0000000a0102'));
    await slow.serverEnded();
    slow.end();

    // RST in the middle of a payload, which the server has begun to read by the time of the reply before it.
    const rude = await RawClient.connect(port);
    rude.sendBytes(Buffer.from('00000005' + '77686f6c65' + '0000000a0102', 'hex'));
    await rude.replied(1);
    requests++;
    rude.reset();
    await stillServed();

    // A byte at a time.
    const patient = await RawClient.connect(port);
    for (const byte of Buffer.from('00000003616263', 'hex')) patient.sendBytes(Buffer.from([byte]));
    expect((await patient.replied(1)).map(String)).to.deep.equal(['XXXXX']);
    requests++;
    patient.end();
    await patient.serverEnded();
    await stillServed();

    const isSettled = ({ connections, total_requests }: { connections: number; total_requests: number }): boolean =>
      connections === 1 && total_requests === requests + sent;
    const metrics = await server.metricsWhen('the totals to settle', isSettled);
    expect(metrics).to.include({ errors: tooLarge, audit_imbalance: 0, in_flight: 0 });
    expect(metrics.models[0]).to.include({ answered: requests + sent - tooLarge, abandoned: 0 });
    const text = await (await fetch(`${await server.url()}/metrics`, { headers: { accept: 'text/plain' } })).text();
    expect(text).to.include('mltcp_requests_refused_total{model="dummy",reason="payload_too_large"} 3');
    expect(text).to.include('mltcp_connections_closed_total{reason="payload_timeout"} 1');
    expect(text).to.include('mltcp_connections_closed_total{reason="payload_too_large"} 3');
    expect(text).to.include('mltcp_connections_closed_total{reason="error"} 1');
    expect(text).to.include('mltcp_frames_truncated_total 4\n');
    expect(metrics.nodes[0]?.restarts).to.equal(0);
  });

  it('survives random bytes', async function () {
    this.timeout(60_000);
    const server = new TestServer({ env: { ...dummy, MAX_CONNECTIONS: '20', PAYLOAD_TIMEOUT_SECONDS: '1' } });
    const port = await server.port();
    const { randomBytes } = await import('node:crypto');
    for (let round = 0; round < 20; round++) {
      const clients = await Promise.all(Array.from({ length: 10 }, () => RawClient.connect(port)));
      for (const client of clients) {
        client.sendBytes(randomBytes(1 + 13 * round));
        if (round % 2 === 0) client.end();
        else client.reset();
      }
      await Promise.all(clients.map((client) => client.serverEnded()));
      for (const client of clients) client.destroy();
    }
    const good = await RawClient.connect(port);
    good.send(Buffer.from('still there?'));
    await good.replied(1);
    const metrics = await server.metricsWhen('only the good client', ({ connections }) => connections === 1);
    expect(metrics.audit_imbalance).to.equal(0);
    expect(metrics.nodes[0]?.restarts).to.equal(0);
  });

  it('refuses an 8-byte length above 2^53 instead of rounding it', async () => {
    const server = new TestServer({ env: { ...dummy, LENGTH_FIELD_SIZE: '8' } });
    const port = await server.port();
    for (const length of ['0020000000000001', 'ffffffffffffffff', '8000000000000000']) {
      const client = await RawClient.connect(port, 8);
      client.sendBytes(Buffer.from(length, 'hex'));
      expect((await client.replied(1)).map((reply) => reply.length)).to.deep.equal([0]);
      await client.serverEnded();
      client.destroy();
    }
  });

  it('holds the connection limit over all workers, and gives places back', async () => {
    const server = new TestServer({ env: { ...dummy, MAX_CONNECTIONS: '5', WORKERS: '3' } });
    const port = await server.port();
    const clients = await Promise.all(Array.from({ length: 12 }, () => RawClient.connect(port)));
    const refused = await until('seven refusals', () => {
      const replied = clients.filter(({ replies }) => replies.length > 0);
      return replied.length === 7 && replied;
    });
    for (const client of refused) {
      expect(client.replies).to.deep.equal([Buffer.alloc(0)]);
      await client.serverEnded();
      client.destroy();
    }
    const served = clients.filter((client) => !refused.includes(client));
    for (const client of served) client.send(Buffer.from('x'));
    for (const client of served) expect(String((await client.replied(1))[0])).to.equal('XXXXX');
    const metrics = await server.metricsWhen(
      'five connections',
      ({ connections, connections_refused }) => connections === 5 && connections_refused === 7,
    );
    expect(metrics.workers.filter(({ connections }) => connections > 0).length).to.be.above(1);
    served[0]?.end();
    await served[0]?.closed;
    const next = await until('a free place', async () => {
      const client = await RawClient.connect(port);
      client.send(Buffer.from('x'));
      const [reply] = await client.replied(1);
      if (reply?.length === 5) return client;
      client.destroy();
      return undefined;
    });
    next.destroy();
  });

  it('in a storm beyond the limit tells the first, closes the others, serves who is there, and counts all', async () => {
    const server = new TestServer({ env: { ...dummy, MAX_CONNECTIONS: '1', WORKERS: '2' } });
    const port = await server.port();
    const served = await RawClient.connect(port);
    served.send(Buffer.from('x'));
    await served.replied(1);
    const clients = await Promise.all(Array.from({ length: 400 }, () => RawClient.connect(port)));
    await Promise.all(clients.map((client) => client.serverEnded()));
    const told = clients.filter(({ replies }) => replies.length > 0);
    expect(told.length).to.be.within(maxToldPerSecond, 399);
    expect(new Set(told.map(({ replies }) => String(replies)))).to.deep.equal(new Set(['']));
    for (const client of clients) client.destroy();
    await server.metricsWhen('400 refusals', ({ connections_refused }) => connections_refused === 400);
    expect(await server.prometheus()).to.match(/mltcp_connections_refused_total\{.*reason="limit"\} 400\n/);
    served.send(Buffer.from('x'));
    await served.replied(2);
  });

  it('pauses a client that never reads, keeps its memory bounded and serves the others', async function () {
    this.timeout(60_000);
    const server = new TestServer({ env: { ...dummy, RESPONSE_SIZE: '1000', WORKERS: '1' } });
    const port = await server.port();
    const before =
      (await server.metricsWhen('a worker', ({ workers }) => workers.length === 1)).workers[0]?.memory ?? 0;
    const deaf = await RawClient.connect(port, 4, false);
    const frames = Buffer.alloc(5 * 10_000, Buffer.from('0000000178', 'hex'));
    let isBlocked = false;
    for (let i = 0; i < 400 && !isBlocked; i++) {
      isBlocked = !deaf.socket.write(frames) && deaf.socket.writableLength > 4 << 20;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(isBlocked, 'the server stops reading').to.equal(true);
    const good = await RawClient.connect(port);
    for (let i = 1; i <= 100; i++) {
      good.send(Buffer.from('x'));
      await good.replied(i);
    }
    const { workers } = await server.metricsWhen('the good requests', ({ connections }) => connections === 2);
    expect(workers[0]?.memory ?? 0).to.be.below(before + 100 * 2 ** 20);
    deaf.destroy();
    const metrics = await server.metricsWhen('the deaf client to be gone', ({ connections }) => connections === 1);
    expect(metrics.audit_imbalance).to.equal(0);
  });

  it('answers a client that has closed its sending side already', async () => {
    const server = new TestServer({ env: dummy });
    const client = await RawClient.connect(await server.port());
    client.send(...Array.from({ length: 1000 }, () => Buffer.from('x')));
    client.end();
    await client.serverEnded();
    expect(client.replies).to.have.lengthOf(1000);
  });
});
