// The same rows get the same bits, whatever protocol they come by; clients of all protocols share batches and counts.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Metrics } from '#src/aggregator/metrics.js';
import { temporaryFolder } from '../support/folder.js';
import { writePeers } from '../support/peers/models.js';
import { endProcesses, workersOf } from '../support/processes.js';
import { type LogLine, TestServer } from '../support/server.js';
import type { Request, Tensor, TypedClient } from '../support/typed/client.js';
import { MixedLoad, type MixedPorts } from '../support/typed/mixed-load.js';
import { typedNames, typedProtocols } from '../support/typed/protocols.js';
import { RawFrames } from '../support/typed/raw-frames.js';
import { until } from '../support/until.js';

/** A listener of raw frames for each of these models, one of calls, and an open one. */
class EveryProtocolServer extends TestServer {
  readonly #models: readonly string[];

  constructor(models: readonly string[], env: Readonly<Record<string, string>>, ofModels: object = {}) {
    const folder = temporaryFolder();
    const config = join(folder, 'config.json');
    const all = writePeers(folder).filter(({ name }) => models.includes(String(name)));
    const at = { host: '127.0.0.1', port: 0 };
    const listeners = [
      ...models.map((model) => ({ ...at, model })),
      { ...at, protocol: 'calls' },
      { ...at, protocol: 'open' },
    ];
    const sections = { models: all.map((model) => ({ ...model, ...ofModels })), listeners };
    writeFileSync(config, JSON.stringify(sections));
    super({ args: ['--config', config], env, hasListeners: true });
    this.#models = models;
  }

  /** In the order of config. */
  async #all(): Promise<readonly number[]> {
    const { tcp } = (await this.event('ready')) as LogLine & { tcp: readonly string[] };
    return tcp.map((text) => Number(/:(\d+)(?: |$)/.exec(text)?.[1]));
  }

  async ports(model: string): Promise<MixedPorts> {
    const all = await this.#all();
    const [calls, open] = all.slice(this.#models.length) as [number, number];
    return { frames: all[this.#models.indexOf(model)] as number, calls, open };
  }
}

const clients: TypedClient[] = [];
const loads: MixedLoad[] = [];

async function cleanUp(): Promise<void> {
  for (const client of clients.splice(0)) client.close();
  for (const load of loads.splice(0)) load.destroy();
  await endProcesses();
}

function opened<T extends TypedClient>(client: T): T {
  clients.push(client);
  return client;
}

/** The same numbers each time. */
function randomBytes(seed: number, length: number): Buffer {
  let state = seed;
  return Buffer.from(
    Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state >>> 24;
    }),
  );
}

/** Numbers of many sizes, with signs, zeros and those that are hard to print. */
function floats(seed: number, count: number): Float32Array {
  const bytes = randomBytes(seed, count * 4);
  const special = [-0, 0, 1 / 3, 1e-45, 3.4028234663852886e38, -1.1754943508222875e-38, 16_777_217];
  return Float32Array.from({ length: count }, (_, i) => {
    if (i % 5 === 0) return special[(seed + i) % special.length] as number;
    const value = bytes.readFloatLE(i * 4);
    return Number.isFinite(value) ? value : i;
  });
}

const bytesOf = ({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

function strings(texts: readonly string[]): Buffer {
  return Buffer.concat(
    texts.flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    }),
  );
}

/** A model, its inputs for a row, and how many bytes of each output a row has. */
interface Case {
  readonly model: string;
  readonly row: (seed: number) => readonly Tensor[];
  /** Null: the outputs of a row are not of one size; there is one. */
  readonly outputBytes: readonly number[] | null;
}

const words = ['', 'a', 'zwölf', '日本語', 'x'.repeat(300), '🙂', '\t"\\', 'two words'];
const cases: readonly Case[] = [
  {
    model: 'network',
    row: (seed) => [
      {
        name: 'x',
        datatype: 'FP32',
        shape: [1, 64],
        data: bytesOf(Float32Array.from(floats(seed, 64), (x) => x % 1e6)),
      },
    ],
    outputBytes: [40],
  },
  {
    model: 'identity_fp32',
    row: (seed) => [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 4], data: bytesOf(floats(seed, 4)) }],
    outputBytes: [16],
  },
  {
    model: 'identity_fp64',
    row: (seed) => [
      {
        name: 'INPUT0',
        datatype: 'FP64',
        shape: [1, 4],
        data: bytesOf(Float64Array.from(floats(seed, 4), (x) => x / 3)),
      },
    ],
    outputBytes: [32],
  },
  {
    model: 'simple',
    row: (seed) =>
      [0, 1].map((i) => ({
        name: `INPUT${i}`,
        datatype: 'INT32',
        shape: [1, 16],
        data: randomBytes(seed * 2 + i, 64),
      })),
    outputBytes: [64, 64],
  },
  {
    model: 'identity_bytes',
    row: (seed) => [
      {
        name: 'INPUT0',
        datatype: 'BYTES',
        shape: [1, 4],
        data: strings(Array.from({ length: 4 }, (_, i) => words[(seed + i) % words.length] as string)),
      },
    ],
    outputBytes: null,
  },
];

/** Rows as one request: tensor by tensor. */
function together(model: string, rows: readonly (readonly Tensor[])[]): Request {
  const [first = []] = rows;
  const inputs = first.map((input, i) => ({
    ...input,
    shape: [rows.length, ...input.shape.slice(1)],
    data: Buffer.concat(rows.map((row) => (row[i] as Tensor).data)),
  }));
  return { model, inputs };
}

/** Replies of raw frames as outputs: of each, all rows behind one another. */
function outputsOf(replies: readonly Buffer[], outputBytes: Case['outputBytes']): readonly Buffer[] {
  if (outputBytes === null) return [Buffer.concat(replies)];
  let at = 0;
  return outputBytes.map((bytes) => {
    const from = at;
    at += bytes;
    return Buffer.concat(replies.map((reply) => reply.subarray(from, from + bytes)));
  });
}

describe('equal answers', () => {
  describe('the same rows', () => {
    let server: EveryProtocolServer;
    before(async () => {
      server = new EveryProtocolServer(
        cases.map(({ model }) => model),
        { WORKERS: '1' },
      );
      await server.event('ready');
    });
    after(cleanUp);

    for (const { model, row, outputBytes } of cases) {
      it(`of ${model} get the same bits over raw frames, ${typedNames.join(', ')}`, async () => {
        const ports = await server.ports(model);
        const raw = opened(new RawFrames(ports.frames));
        const typed = typedNames.map(
          (name) => [name, opened(typedProtocols[name].open(ports[typedProtocols[name].listener]))] as const,
        );
        for (let seed = 1; seed <= 40; seed++) {
          const inputs = row(seed);
          const replies = (await raw.ask({ model, inputs })).map(({ data }) => data);
          const wanted = outputsOf(replies, outputBytes).map((bytes) => bytes.toString('hex'));
          for (const [name, client] of typed) {
            const answer = await client.ask({ model, inputs });
            expect(
              answer.map(({ data }) => data.toString('hex')),
              `${name}, row ${seed}`,
            ).to.deep.equal(wanted);
          }
        }
      });
    }

    for (const { model, row, outputBytes } of cases.filter((one) => one.model !== 'network')) {
      it(`of ${model}, many in a request, get what each gets alone`, async () => {
        const ports = await server.ports(model);
        const raw = opened(new RawFrames(ports.frames));
        for (const count of [2, 5, 16]) {
          const rows = Array.from({ length: count }, (_, i) => row(1000 * count + i));
          const replies = (await Promise.all(rows.map((inputs) => raw.ask({ model, inputs })))).flat();
          const wanted = outputsOf(
            replies.map(({ data }) => data),
            outputBytes,
          ).map((bytes) => bytes.toString('hex'));
          const answers = await Promise.all(
            typedNames.map((name) => {
              const { listener, open } = typedProtocols[name];
              return opened(open(ports[listener])).ask(together(model, rows));
            }),
          );
          answers.forEach((answer, i) => {
            const found = answer.map(({ data }) => data.toString('hex'));
            expect(found, `${typedNames[i]}, ${count} rows`).to.deep.equal(wanted);
            for (const { shape } of answer) expect(shape[0]).to.equal(count);
          });
        }
      });
    }
  });

  describe('clients of all protocols', () => {
    afterEach(cleanUp);

    it('share a batch of one model', async () => {
      const shares = { maxQueueDelayMs: 1000, maxBatchSize: 5, execution: 'inline' };
      const server = new EveryProtocolServer(['simple'], { WORKERS: '1' }, shares);
      const ports = await server.ports('simple');
      const { row } = cases.find(({ model }) => model === 'simple') as Case;
      const raw = opened(new RawFrames(ports.frames));
      const all = typedNames.map((name) => opened(typedProtocols[name].open(ports[typedProtocols[name].listener])));
      await Promise.all([raw, ...all].map((client, i) => client.ask({ model: 'simple', inputs: row(i) })));
      const { models } = await server.metricsWhen('five requests', ({ total_requests }) => total_requests === 5);
      const counts = models.find(({ name }) => name === 'simple');
      expect(counts).to.include({ requests: 5, answered: 5, batches: 1, rows_per_batch: 5 });
    });

    const requestAt = (i: number, isOneRow: boolean): Request => {
      const rows = isOneRow ? 1 : 1 + (i % 3);
      const filled = (value: number): Buffer => bytesOf(new Int32Array(rows * 16).fill(value));
      const shape = [rows, 16];
      return {
        model: 'simple',
        inputs: [
          { name: 'INPUT0', datatype: 'INT32', shape, data: filled(i) },
          { name: 'INPUT1', datatype: 'INT32', shape, data: filled(i % 7) },
        ],
      };
    };
    const isRight = ({ inputs }: Request, answer: readonly Buffer[]): boolean => {
      const [a, b] = inputs.map(({ data }) => data.readInt32LE(0)) as [number, number];
      const values = bytesOf(Buffer.concat(answer));
      const half = values.length / 2;
      const isAll = (from: number, to: number, value: number): boolean => {
        for (let at = from; at < to; at += 4) if (values.readInt32LE(at) !== value) return false;
        return true;
      };
      const expected = inputs.reduce((sum, { data }) => sum + data.length, 0);
      return values.length === expected && isAll(0, half, a + b) && isAll(half, values.length, a - b);
    };

    async function loaded(): Promise<{ server: EveryProtocolServer; load: MixedLoad }> {
      const server = new EveryProtocolServer(['simple'], { WORKERS: '2' });
      const load = new MixedLoad(await server.ports('simple'), requestAt, isRight);
      loads.push(load);
      return { server, load };
    }

    /** Stops the load, and compares what clients have counted with what the server has. */
    async function agrees(server: TestServer, load: MixedLoad): Promise<void> {
      await load.stop();
      expect(load.faults).to.deep.equal([]);
      const counted = ({ models }: Metrics): number => models.reduce((sum, { answered }) => sum + answered, 0);
      await server.metricsWhen(
        `the totals of ${load.answers} answers (${load.lost} were lost)`,
        (metrics) =>
          !metrics.stale &&
          counted(metrics) >= load.answers &&
          counted(metrics) <= load.answers + load.lost &&
          metrics.latency_ms.count === counted(metrics) &&
          metrics.audit_imbalance === 0 &&
          metrics.in_flight === 0 &&
          metrics.connections === 0,
      );
    }

    it('are counted exactly through workers that are killed', async function () {
      this.timeout(60_000);
      const { server, load } = await loaded();
      for (let i = 0; i < 2; i++) {
        await load.more(50);
        const replacements = server.count('worker replaced');
        process.kill(workersOf(server)[0] as number, 'SIGKILL');
        await until('the replacement', () => server.count('worker replaced') > replacements);
      }
      await load.more(50);
      await agrees(server, load);
      expect(load.lost, 'the kills hit busy workers').to.be.above(0);
      expect(load.refusals).to.deep.equal([]);
    });

    it('lose nothing through reloads, and are counted exactly', async function () {
      this.timeout(60_000);
      const { server, load } = await loaded();
      for (let reloads = 1; reloads <= 2; reloads++) {
        await load.more(50);
        server.signal('SIGHUP');
        await until('a reload', () => server.count('reloaded') === reloads);
      }
      await load.more(50);
      await agrees(server, load);
      expect([load.lost, load.refusals]).to.deep.equal([0, []]);
    });

    it('lose nothing when workers drain, and are counted exactly', async function () {
      this.timeout(60_000);
      const { server, load } = await loaded();
      const workers = (count: number): Promise<Metrics> =>
        server.metricsWhen(`${count} workers`, ({ workers: there }) => there.length === count);
      for (const [signal, count] of [
        ['SIGTTOU', 1],
        ['SIGTTIN', 2],
      ] as const) {
        await load.more(50);
        server.signal(signal);
        await workers(count);
      }
      await load.more(50);
      await agrees(server, load);
      expect([load.lost, load.refusals]).to.deep.equal([0, []]);
    });
  });
});
