// gRPC of a real server: reloads that nobody notices, exact counts, and what a server that stops tells its clients.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { credentials, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { GrpcClient, numbersIn, type Outcome, streamed } from '../support/grpc-rig.js';
import { endProcesses } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const row = {
  model_name: 'digits',
  inputs: [{ name: 'pixels', datatype: 'FP32', shape: [1, 64] }],
  raw_input_contents: [Buffer.from(Float32Array.from({ length: 64 }, (_, i) => i / 4).buffer)],
};

/** Asks one call after the other, with pauses, until it is told to stop. */
class Caller {
  readonly outcomes: Outcome[] = [];
  readonly client: GrpcClient;
  #isStopped = false;
  readonly #done: Promise<void>;

  constructor(port: number, pauseMs: number) {
    this.client = new GrpcClient(port, credentials.createInsecure(), {});
    this.#done = this.#run(pauseMs);
  }

  get faults(): readonly string[] {
    return this.outcomes.filter(({ code }) => code !== status.OK).map(({ code, details }) => `${code} ${details}`);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
    this.client.close();
  }

  async #run(pauseMs: number): Promise<void> {
    while (!this.#isStopped) {
      this.outcomes.push(await this.client.infer(row));
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

describe('a server that speaks gRPC', () => {
  afterEach(endProcesses);

  it('fails no call while it is reloaded, counts each, and ends streams when it stops', async function () {
    this.timeout(60_000);
    const server = new TestServer({ env: { PROTOCOL: 'open' }, args: ['--workers', '2'] });
    const port = await server.port();
    const callers = [0, 0, 0, 5, 50, 200].map((pauseMs) => new Caller(port, pauseMs));
    const faults = () => callers.flatMap((caller) => caller.faults);
    await until('all to be answered', () => callers.every(({ outcomes }) => outcomes.length > 0));
    server.signal('SIGUSR2');
    await until('the reload', () => server.count('reloaded') === 1, { timeoutMs: 30_000 });
    expect(faults()).to.deep.equal([]);
    const asked = callers.map(({ outcomes }) => outcomes.length);
    await until('all to go on', () => callers.every(({ outcomes }, i) => outcomes.length > (asked[i] as number)));
    await Promise.all(callers.map((caller) => caller.stop()));
    expect(faults()).to.deep.equal([]);
    const outcomes = callers.flatMap((caller) => caller.outcomes);
    expect(new Set(outcomes.map(({ value }) => String(numbersIn(value)))).size).to.equal(1);
    const metrics = await server.metricsWhen(
      `${outcomes.length} requests`,
      ({ total_requests, connections }) => total_requests === outcomes.length && connections === 0,
    );
    expect(metrics).to.include({ errors: 0, audit_imbalance: 0 });

    const client = new GrpcClient(port, credentials.createInsecure(), {});
    const call = client.stream('ModelStreamInfer');
    const done = streamed(call);
    call.write(row);
    await new Promise((resolve) => call.once('data', resolve));
    server.signal('SIGTERM');
    const { code } = await done;
    expect(code).to.equal(status.UNAVAILABLE);
    expect((await server.ended()).code).to.equal(0);
    client.close();
  });

  it('describes itself to grpcurl, and is asked by it', async function () {
    const grpcurl = async (...args: readonly string[]): Promise<string> =>
      (await promisify(execFile)('grpcurl', ['-plaintext', ...args])).stdout;
    if ((await grpcurl('-help').catch(() => null)) === null) skip(this, 'grpcurl is not installed');
    const server = new TestServer({ env: { PROTOCOL: 'open' }, args: ['--workers', '1'] });
    const address = `127.0.0.1:${await server.port()}`;
    expect((await grpcurl(address, 'list')).split('\n')).to.include('inference.GRPCInferenceService');
    expect(await grpcurl(address, 'describe', 'inference.ModelInferRequest')).to.contain('map<string');
    const metadata = await grpcurl('-d', '{"name":"digits"}', address, 'inference.GRPCInferenceService/ModelMetadata');
    expect((JSON.parse(metadata) as { readonly name: string }).name).to.equal('digits');
  });
});
