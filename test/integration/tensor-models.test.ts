// Clients of models whose requests are tensors of any shape, through a real server: whatever they send at once, each
// gets what ONNX Runtime answers to its request alone.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { elementsIn, type Tensor } from '#src/tensors/axis.js';
import { tensorOf } from '#src/tensors/literal.js';
import { temporaryFolder } from '../support/folder.js';
import { ModelsServer } from '../support/models-server.js';
import { writeOnnx } from '../support/onnx-writer.js';
import { endProcesses } from '../support/processes.js';
import type { RawClient } from '../support/raw-client.js';
import { dimsOf, inputsOf, type Kind, kinds, node, payloadOf, reference } from '../support/tensor-kinds.js';
import { openSession } from '../support/tensor-session.js';

const folder = temporaryFolder();
let files = 0;

type Served = Pick<Kind, 'graph' | 'constants' | 'inputs'> & { readonly settings?: Readonly<Record<string, unknown>> };

class KindServer extends ModelsServer {
  constructor(execution: string, served: Readonly<Record<string, Served>>) {
    const models = Object.entries(served).map(([name, { graph, settings = {}, constants = {}, inputs = {} }]) => {
      const path = join(folder, `${files++}.onnx`);
      writeFileSync(path, writeOnnx(graph));
      return { name, path, constants, inputs, execution, maxBatchSize: 8, ...settings };
    });
    super(folder, models);
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

  /** i int64[b, n] → the numbers of a table of 3 at these places; and their negatives, which are not returned. */
  const looked: Served = {
    graph: {
      inputs: [{ name: 'i', dtype: 'int64', shape: ['b', 'n'] }],
      outputs: [
        { name: 'negative', dtype: 'float32', shape: ['b', 'n'] },
        { name: 'y', dtype: 'float32', shape: ['b', 'n'] },
      ],
      nodes: [node('Gather', 'table i', 'y'), node('Neg', 'y', 'negative')],
      constants: [{ name: 'table', shape: [3], values: Float32Array.of(5, 6, 7) }],
    },
    settings: { outputs: ['y'] },
  };
  /** x float32[b, n] → not below 0; padded up to 4 or 16. */
  const padded: Served = {
    graph: {
      inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 'n'] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: ['b', 'n'] }],
      nodes: [node('Relu', 'x', 'y')],
    },
    settings: { pad: { axis: 1, inputs: ['x'], buckets: [4, 16], outputs: { y: 1 } } },
  };
  const places = (...numbers: readonly number[]): Buffer => Buffer.from(BigInt64Array.from(numbers, BigInt).buffer);
  const floats = (...numbers: readonly number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);

  for (const execution of ['inline', 'thread'])
    it(`fails the request that the model throws for, and no other, in whatever run it was (${execution})`, async () => {
      const server = new KindServer(execution, { looked, padded });
      const client = await server.client('looked');
      client.send(places(0, 1), places(9, 0), places(2), places(1, 1), Buffer.alloc(7), places(2, 1, 0));
      const empty = Buffer.alloc(0);
      expect(await client.replied(6)).to.deep.equal([
        floats(5, 6),
        empty,
        floats(7),
        floats(6, 6),
        empty,
        floats(7, 6, 5),
      ]);
      const model = await server.modelWhen('looked', ({ answered, failed }) => answered + failed === 5);
      expect(model).to.include({ requests: 6, answered: 4, failed: 1 });
      expect(model.refused).to.include({ bad_input: 1 });

      const other = await server.client('padded');
      const rows = [1, 7, 3, 2, 16, 40, 5].map((length) => Array.from({ length }, (_, i) => (i % 2 ? -i : i) + length));
      other.send(...rows.map((row) => floats(...row)));
      expect(await other.replied(rows.length)).to.deep.equal(
        rows.map((row) => floats(...row.map((value) => Math.max(0, value)))),
      );
    });
});
