// Clients of models whose requests are tensors of any shape, through a real server: whatever they send at once, each
// gets what ONNX Runtime answers to its request alone.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ModelMetrics } from '#src/aggregator/metrics.js';
import { elementsIn, type Tensor } from '#src/tensors/axis.js';
import { tensorOf } from '#src/tensors/literal.js';
import { temporaryFolder } from '../support/folder.js';
import { writeOnnx } from '../support/onnx-writer.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type LogLine, TestServer } from '../support/server.js';
import { dimsOf, inputsOf, type Kind, kinds, payloadOf, reference } from '../support/tensor-kinds.js';
import { openSession } from '../support/tensor-session.js';

const folder = temporaryFolder();
let files = 0;

class KindServer extends TestServer {
  constructor(execution: string, served: Readonly<Record<string, Kind>>, more: Record<string, unknown> = {}) {
    const models = Object.entries(served).map(([name, { graph, constants = {}, inputs = {} }]) => {
      const path = join(folder, `${files++}.onnx`);
      writeFileSync(path, writeOnnx(graph));
      return { name, path, constants, inputs, execution, maxBatchSize: 8, ...more };
    });
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: name }));
    const config = join(folder, `config-${files++}.json`);
    writeFileSync(config, JSON.stringify({ models, listeners }));
    super({ args: ['--config', config], env: { WORKERS: '1' }, hasListeners: true });
  }

  async client(model: string): Promise<RawClient> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    const line = tcp.find((text) => text.endsWith(`→ ${model}`));
    return RawClient.connect(Number(/:(\d+) /.exec(line ?? '')?.[1]));
  }

  async modelWhen(name: string, isThere: (model: ModelMetrics) => boolean): Promise<ModelMetrics> {
    const isModel = (model: ModelMetrics): boolean => model.name === name && isThere(model);
    const { models } = await this.metricsWhen(`counts of ${name}`, (metrics) => metrics.models.some(isModel));
    return models.find(isModel) as ModelMetrics;
  }
}

/** Request number `i`: sizes, values and texts are others each time. */
function requestOf(kind: Kind, i: number): readonly Tensor[] {
  const sizes = kind.sizes ?? [0];
  const size = sizes[(i * 7 + (i >> 2)) % sizes.length] as number;
  return inputsOf(kind).map((input, k): Tensor => {
    const dims = dimsOf(input, size);
    const length = elementsIn(dims);
    if (input.dtype === 'string')
      return { dtype: 'string', dims, data: Array.from({ length }, (_, at) => 'é'.repeat(at % 3) + i) };
    const numbers = Array.from({ length }, (_, at) =>
      input.batchAxis === 'shared' ? i % 2 : ((i * 31 + at * 17 + k * 5) % 200) - 100,
    );
    const { data } = tensorOf(numbers, input.dtype, [length]) as { data: Uint8Array<ArrayBuffer> };
    return { dtype: input.dtype, dims, data };
  });
}

/** A fixed batch is one of the first axis. */
const { fixedBatch: _, ...served } = kinds;

/** How many requests a client sends before it waits for their replies. */
const patientStep = 13;

/** In the place of the sixth request. */
const bad = Buffer.from([1, 2, 3]);
const badAt = 5;

describe('a model of tensors, behind a server', () => {
  afterEach(endProcesses);

  for (const execution of ['inline', 'thread'])
    it(`gives four clients that send all kinds at once what each request gets alone (${execution})`, async function () {
      this.timeout(60_000);
      const server = new KindServer(execution, served);
      for (const [name, kind] of Object.entries(served)) {
        const session = await openSession(kind.graph);
        const requests = Array.from({ length: 60 }, (_, i) => requestOf(kind, i));
        const payloads = requests.map(payloadOf);
        const expected: Buffer[] = [];
        for (const request of requests) expected.push(await reference(kind, session, request));
        await session.close();
        payloads.splice(badAt, 0, bad);
        expected.splice(badAt, 0, Buffer.alloc(0));
        const clients = await Promise.all([1, 2, 3, 4].map(() => server.client(name)));
        const [patient, ...hasty] = clients as [RawClient, ...RawClient[]];
        for (const client of hasty) client.send(...payloads);
        for (let at = 0; at < payloads.length; at += patientStep) {
          patient.send(...payloads.slice(at, at + patientStep));
          await patient.replied(Math.min(at + patientStep, payloads.length));
        }
        await Promise.all(clients.map((client) => client.replied(payloads.length)));
        for (const client of clients) expect(client.replies, name).to.deep.equal(expected);
      }
      for (const name of Object.keys(served)) {
        const model = await server.modelWhen(name, ({ answered, failed }) => answered + failed === 240);
        expect(model, name).to.include({ answered: 240, failed: 0, retried_rows: 0 });
        expect(model.refused, name).to.include({ bad_input: 4 });
      }
    });
});
