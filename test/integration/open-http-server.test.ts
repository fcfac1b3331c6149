// HTTP of a real server: every client that there is, tokens, limits of connections, and reloads that nobody notices.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Client, jsonIn, requestBytes } from '../support/http-rig.js';
import { endProcesses, root } from '../support/processes.js';
import { type ServerOptions, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const run = promisify(execFile);

function startServer({ args = [], env = {}, ...options }: ServerOptions = {}): TestServer {
  return new TestServer({ ...options, env: { PROTOCOL: 'open', ...env }, args: ['--workers', '2', ...args] });
}

const pixels = Array.from({ length: 64 }, (_, i) => i / 4);
const row = JSON.stringify({ inputs: [{ name: 'pixels', datatype: 'FP32', shape: [1, 64], data: pixels }] });
const infer = '/v2/models/digits/infer';

/** So much JSON that a thread reads it. */
const manyRows = JSON.stringify({
  inputs: [
    {
      name: 'pixels',
      datatype: 'FP32',
      shape: [200, 64],
      data: Array.from({ length: 12_800 }, (_, i) => (i % 16) / 7),
    },
  ],
});

async function expectManyRows(port: number): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${port}${infer}`, { method: 'POST', body: manyRows });
  const { outputs } = (await answer.json()) as { readonly outputs: readonly { readonly data: readonly number[] }[] };
  expect(outputs[0]?.data).to.have.lengthOf(2000);
}

/** Asks one request after the other on a connection that it keeps, until it is told to stop. */
class KeptClient {
  readonly answers: string[] = [];
  readonly faults: string[] = [];
  closes = 0;
  readonly done: Promise<void>;
  #isStopped = false;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #port: number;

  constructor(port: number, pauseMs: number) {
    this.#port = port;
    this.done = this.#run(pauseMs);
  }

  stop(): Promise<void> {
    this.#isStopped = true;
    return this.done;
  }

  async #run(pauseMs: number): Promise<void> {
    while (!this.#isStopped) {
      await this.#ask().catch((error: Error) => this.faults.push(error.message));
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    this.#agent.destroy();
  }

  #ask(): Promise<void> {
    return new Promise((resolve, reject) => {
      const options = { port: this.#port, path: infer, method: 'POST', agent: this.#agent };
      const asking = request(options, (answer) => {
        let text = '';
        if (answer.headers.connection === 'close') this.closes++;
        answer.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        answer.on('error', reject).on('end', () => {
          if (answer.statusCode === 200) this.answers.push(text);
          else this.faults.push(`${answer.statusCode}: ${text}`);
          resolve();
        });
      });
      asking.on('error', reject);
      asking.end(row);
    });
  }
}

describe('a server that speaks HTTP', () => {
  afterEach(endProcesses);

  it('answers curl as the README says', async function () {
    const server = startServer();
    const port = await server.port();
    const curl = async (...args: readonly string[]): Promise<string> => (await run('curl', ['-sS', ...args])).stdout;
    if ((await curl('--version').catch(() => null)) === null) skip(this, 'curl is not installed');
    const url = `http://127.0.0.1:${port}/v2`;
    expect(JSON.parse(await curl(`${url}/health/ready`))).to.deep.equal({ live: true, ready: true });
    expect(JSON.parse(await curl(`${url}/models/digits`)).inputs).to.deep.equal([
      { name: 'pixels', datatype: 'FP32', shape: [-1, 64] },
    ]);
    const plain = await curl('-d', row, `${url}/models/digits/infer`);
    expect(JSON.parse(plain).outputs[0].data).to.have.lengthOf(10);
    expect(await curl('--compressed', '-d', row, `${url}/models/digits/infer`)).to.equal(plain);
    expect(await curl('-d', '{}', '-o', '/dev/null', '-w', '%{http_code}', `${url}/models/digits/infer`)).to.equal(
      '400',
    );
    await expectManyRows(port);
    const { paths } = JSON.parse(await curl(`${url}/openapi.json`)) as { readonly paths: object };
    expect(paths).to.include.keys('/v2/models/{model}/infer');
  });

  it('asks for the secret, and says who has too many connections', async () => {
    const server = startServer({ env: { SHARED_SECRET: 'hush', MAX_CONNECTIONS: '2' } });
    const port = await server.port();
    const [first, second] = [await Client.connect(port), await Client.connect(port)];
    first.send(requestBytes('POST', infer, { Authorization: 'Bearer hush' }, row));
    expect((await first.answer()).status).to.equal(200);
    second.send(requestBytes('GET', '/v2/health/ready'));
    expect((await second.answer()).status).to.equal(200);
    const third = await Client.connect(port);
    const refused = await third.answer();
    expect({ status: refused.status, ...jsonIn(refused) }).to.include({ status: 503, reason: 'TOO_MANY_CONNECTIONS' });
    await third.ended();
    second.send(requestBytes('POST', infer, {}, row));
    expect((await second.answer(2)).status).to.equal(401);
    await second.ended();
    first.socket.end();
  });

  for (const version of ['node-24', 'node-26']) {
    const node = `${root}build/node-versions/node_modules/${version}/bin/node`;
    it(`does so with Node ${version.slice(5)}, through a reload`, async function () {
      if (!existsSync(node)) skip(this, `${version} could not be fetched`);
      const server = startServer({ node });
      const port = await server.port();
      const clients = [0, 0, 20].map((pauseMs) => new KeptClient(port, pauseMs));
      await expectManyRows(port);
      server.signal('SIGUSR2');
      await until('the reload', () => server.count('reloaded') === 1, { timeoutMs: 30_000 });
      await expectManyRows(port);
      await Promise.all(clients.map((client) => client.stop()));
      expect(clients.flatMap(({ faults }) => faults)).to.deep.equal([]);
      const requests = clients.reduce((sum, { answers }) => sum + answers.length, 2);
      const metrics = await server.metricsWhen(`${requests} requests`, (seen) => seen.total_requests === requests);
      expect(metrics).to.include({ errors: 0, audit_imbalance: 0 });
    });
  }

  it('fails no request while it is reloaded and when it stops, and counts each', async function () {
    this.timeout(60_000);
    const server = startServer();
    const port = await server.port();
    const clients = [0, 0, 0, 0, 5, 50, 200].map((pauseMs) => new KeptClient(port, pauseMs));
    const expectNoFault = (): void => {
      expect(clients.flatMap(({ faults }) => faults)).to.deep.equal([]);
    };
    await until('all to be answered', () => clients.every(({ answers }) => answers.length > 0));
    for (let round = 1; round <= 2; round++) {
      server.signal('SIGUSR2');
      await until('the reload', () => server.count('reloaded') === round, { timeoutMs: 30_000 });
      expectNoFault();
    }
    const asked = clients.map(({ answers }) => answers.length);
    await until('all to go on', () => clients.every(({ answers }, i) => answers.length > (asked[i] as number)));
    await Promise.all(clients.map((client) => client.stop()));
    expectNoFault();
    expect(new Set(clients.flatMap(({ answers }) => answers)).size).to.equal(1);
    expect(clients.reduce((sum, { closes }) => sum + closes, 0)).to.be.greaterThan(0);
    const requests = clients.reduce((sum, { answers }) => sum + answers.length, 0);
    const metrics = await server.metricsWhen(
      `${requests} requests`,
      ({ total_requests, connections }) => total_requests === requests && connections === 0,
    );
    expect(metrics).to.include({ errors: 0, audit_imbalance: 0 });
    const held = await Client.connect(port);
    held.send(requestBytes('POST', infer, {}, row));
    await held.answer();
    server.signal('SIGTERM');
    await server.event('draining: answering what is in flight; once more to force');
    held.send(requestBytes('POST', infer, {}, row));
    const last = await held.answer(2);
    expect(last).to.deep.include({ status: 200 });
    expect(last.headers.connection).to.equal('close');
    await held.ended();
    expect((await server.ended()).code).to.equal(0);
  });
});
