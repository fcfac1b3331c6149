// Whatever protocol requests use, they are answered, refused and counted alike.

import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Metrics } from '#src/aggregator/metrics.js';
import { BatchCost } from '#src/inference/batch-cost.js';
import type { Model } from '#src/inference/model.js';
import { Recorder } from '#src/metrics/recorder.js';
import { BufferPool } from '#src/protocol/buffer-pool.js';
import { call as callMessage, reply as replyMessage } from '#src/protocol/calls/messages.js';
import { encodeFrame, FrameDecoder } from '#src/protocol/frames.js';
import { decode, encode } from '#src/protocol/protobuf/messages.js';
import { Deadlines } from '#src/serving/deadlines.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import { openCalls } from '#src/worker/calls/open.js';
import { CallModels } from '#src/worker/oip/call-models.js';
import { WorkerOip } from '#src/worker/oip/oip-service.js';
import { NodeStatistics } from '#src/worker/oip/statistics.js';
import { type OpenConnection, type ProtocolContext, protocols, type ServedConnection } from '#src/worker/protocols.js';
import { type Batching, batcherOf } from '../support/batchers.js';
import { LineConnection } from '../support/line-protocol.js';
import { endProcesses, workersOf } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

interface Protocol {
  readonly name: string;
  open(endpoint: ModelEndpoint, context: ProtocolContext): OpenConnection;
  /** What a server needs in its environment to speak this protocol. */
  readonly env: Readonly<Record<string, string>>;
  encode(payload: string): Buffer;
  /** Of the reply with this text; null: its size varies. */
  readonly replyBytes: ((reply: string) => number) | null;
  /** Whole replies; an empty one for a request that failed. */
  decode(bytes: Buffer): readonly string[];
}

const framed: Protocol = {
  name: 'framed',
  open: protocols.raw,
  env: {},
  replyBytes: (reply) => 4 + reply.length,
  encode: (payload) => encodeFrame(Buffer.from(payload, 'latin1'), 4),
  decode: (bytes) => {
    const decoder = new FrameDecoder(4, 1 << 20);
    const replies: string[] = [];
    decoder.push(bytes);
    while (decoder.next() === 'frame') replies.push(decoder.source.toString('latin1', decoder.start, decoder.end));
    return replies;
  },
};

const lines: Protocol = {
  name: 'line',
  open:
    (endpoint) =>
    ({ socket, onClose }) =>
      new LineConnection(socket, endpoint, () => onClose(false)),
  env: { NODE_OPTIONS: `--import=${fileURLToPath(new URL('../support/serve-lines.js', import.meta.url))}` },
  replyBytes: (reply) => reply.length + 1,
  encode: (payload) => Buffer.from(`${payload}\n`, 'latin1'),
  decode: (bytes) => bytes.toString('latin1').split('\n').slice(0, -1),
};

/** The models of an endpoint, as calls name them. */
function oipOf(endpoint: ModelEndpoint, { connections: { recorder } }: ProtocolContext): WorkerOip {
  const served = {
    backend: 'module',
    plan: null,
    inputBytes: null,
    version: 'unversioned',
    maxQueueDelayMs: 0,
    mostRunRows: 256,
  } as const;
  const models = new CallModels(recorder, new Map([['m', served]]), new Map([['m', endpoint]]), () => 1000);
  const { budget, flush, limits: own } = endpoint;
  const statistics = new NodeStatistics({ ask: async () => {}, timeoutMs: 1000 });
  const serving = { budget, flush, deadlines: new Deadlines(), maxInFlight: own.maxInFlight };
  return new WorkerOip({ models, serving, statistics });
}

let callNumber = 0;

const calls: Protocol = {
  name: 'calls',
  open: (endpoint, context) => openCalls(oipOf(endpoint, context), { models: ['m'], defaultModel: 'm' }, context),
  env: { PROTOCOL: 'calls' },
  replyBytes: null,
  encode: (payload) => {
    const element = Buffer.alloc(4 + payload.length);
    element.writeUInt32LE(payload.length);
    element.write(payload, 4, 'latin1');
    const input = { name: 'payload', datatype: 'BYTES', shape: [1] };
    const infer = { inputs: [input], raw_input_contents: [element] };
    return encodeFrame(encode(callMessage, { call: ++callNumber, infer }), 4);
  },
  // Replies come in any order; what is said of the connection comes last, unless it is that the server goes.
  decode: (bytes) => {
    const decoder = new FrameDecoder(4, 1 << 20);
    const replies: { readonly call: number; readonly text: string }[] = [];
    decoder.push(bytes);
    while (decoder.next() === 'frame') {
      const { call, infer, reason } = decode(replyMessage, decoder.source, decoder.start, decoder.end);
      if (reason === 'GOING_AWAY') continue;
      const text = Buffer.from(infer?.raw_output_contents[0]?.subarray(4) ?? []).toString('latin1');
      replies.push({ call: Number(call) || Number.POSITIVE_INFINITY, text });
    }
    return replies.sort((a, b) => (a.call === b.call ? 0 : a.call - b.call)).map(({ text }) => text);
  },
};

class Client {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;
  readonly #protocol: Protocol;
  readonly #chunks: Buffer[] = [];
  sent = 0;
  #bytes = 0;

  constructor(protocol: Protocol, port: number) {
    this.#protocol = protocol;
    this.socket = createConnection({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
    this.socket
      .on('error', () => {})
      .on('data', (chunk) => {
        this.#bytes += chunk.length;
        this.#chunks.push(chunk);
      });
    this.socket.on('end', () => this.socket.end());
    this.closed = new Promise((resolve) => this.socket.once('close', resolve));
  }

  get replies(): readonly string[] {
    return this.#protocol.decode(Buffer.concat(this.#chunks));
  }

  /** How many replies have come, if all are alike. */
  count(reply: string): number {
    const { replyBytes } = this.#protocol;
    return replyBytes === null ? this.replies.length : Math.floor(this.#bytes / replyBytes(reply));
  }

  send(...payloads: readonly string[]): void {
    this.sent += payloads.length;
    this.socket.write(Buffer.concat(payloads.map((payload) => this.#protocol.encode(payload))));
  }

  async replied(count: number): Promise<readonly string[]> {
    await until(`${count} replies of ${this.replies.length}`, () => this.replies.length >= count, { intervalMs: 2 });
    return this.replies;
  }
}

/** Answers each payload in capitals; only the row `!` fails. While it is shut, runs wait. */
class GatedModel implements Model {
  readonly outputBytes = null;
  readonly fixedRows = null;
  readonly runsAloneBecause = null;
  readonly plan = null;
  readonly mayReplyWithInput = false;
  readonly concurrency = 1;
  readonly sample = null;
  readonly description = 'gated';
  readonly inputBytes: number | null;
  runs = 0;
  #shut: Promise<void> | null = null;
  open = (): void => {};

  constructor(inputBytes: number | null) {
    this.inputBytes = inputBytes;
  }

  shut(): void {
    this.#shut = new Promise((resolve) => {
      this.open = () => {
        this.#shut = null;
        resolve();
      };
    });
  }

  run: Model['run'] = async (batch) => {
    const payloads = Array.from({ length: batch.rows }, (_, i) => batch.payload(i).toString('latin1'));
    this.runs++;
    await this.#shut;
    const rows = payloads.map((text) => (text === '!' ? new Error(text) : Buffer.from(text.toUpperCase(), 'latin1')));
    return { kind: 'rows', rows };
  };

  async close(): Promise<void> {}
}

const limits = {
  lengthFieldSize: 4,
  maxPayloadBytes: 1000,
  maxInFlight: 64,
  maxWriteBufferBytes: 1 << 20,
  payloadTimeoutMs: 60_000,
  idleTimeoutMs: 0,
  writeTimeoutMs: 60_000,
} as const;

const batching = { maxBatchSize: 8, maxQueue: 100, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false };

type Changes = Partial<Batching & { maxInFlight: number; inputBytes: number }>;

/** Nothing but the protocol, on a port, in front of a model. */
class Rig {
  readonly model: GatedModel;
  readonly connections = new Set<ServedConnection>();
  readonly budget = new MemoryBudget(1 << 20);
  readonly #protocol: Protocol;
  readonly #recorder = new Recorder(['m']);
  readonly #server: Server;
  readonly #clients: Client[] = [];
  /** How many requests were counted as answered when replies were last released. */
  safelyAnswered = 0;

  private constructor(protocol: Protocol, changes: Partial<Batching & { maxInFlight: number; inputBytes: number }>) {
    this.#protocol = protocol;
    this.model = new GatedModel(changes.inputBytes ?? null);
    const served = { ...limits, ...changes };
    const endpoint = new ModelEndpoint({
      batcher: batcherOf(this.model, { ...batching, ...changes }),
      recorder: this.#recorder.model('m'),
      limits: served,
      budget: this.budget,
      flush: new ReplyFlush(() => {
        this.safelyAnswered = this.counts.answered;
      }),
    });
    const pool = new BufferPool(1 << 20);
    const connections = { limits: served, recorder: this.#recorder, pool };
    const open = protocol.open(endpoint, { ...limits, connections, pool, secret: null });
    this.#server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (socket) => {
      const connection = open({ socket, address: '', onClose: () => this.connections.delete(connection), moved: null });
      this.connections.add(connection);
      connection.start();
    });
  }

  static async open(protocol: Protocol, changes: Changes = {}): Promise<Rig> {
    const rig = new Rig(protocol, changes);
    await new Promise<void>((resolve) => rig.#server.listen(0, '127.0.0.1', resolve));
    return rig;
  }

  /** Has the model in a run that does not end before `model.open()`; resolves to its client. */
  async occupied(): Promise<Client> {
    this.model.shut();
    const client = this.client();
    client.send('x');
    await until('a run', () => this.model.runs === 1, { intervalMs: 2 });
    return client;
  }

  client(): Client {
    const client = new Client(this.#protocol, (this.#server.address() as AddressInfo).port);
    this.#clients.push(client);
    return client;
  }

  get counts() {
    const { m } = this.#recorder.snapshot().models;
    if (m === undefined) throw new Error('the model has no counts');
    return m;
  }

  /** Received, minus outcomes and requests in flight: 0 at every moment. */
  get imbalance(): number {
    const {
      received,
      answered,
      failed,
      refusedBadInput,
      refusedQueueFull,
      refusedOverloaded,
      refusedPayloadTooLarge,
      expired,
      abandoned,
    } = this.counts;
    const over =
      answered +
      failed +
      refusedBadInput +
      refusedQueueFull +
      refusedOverloaded +
      refusedPayloadTooLarge +
      expired +
      abandoned;
    return received - over - [...this.connections].reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  received(count: number): Promise<boolean> {
    return until(`${count} requests`, () => this.counts.received === count, { intervalMs: 2 });
  }

  async close(): Promise<void> {
    this.model.open();
    for (const { socket } of this.#clients) socket.destroy();
    await until('the end of all connections', () => this.connections.size === 0, { intervalMs: 2 });
    await new Promise((resolve) => this.#server.close(resolve));
    expect(this.imbalance, 'the audit').to.equal(0);
    expect(this.counts.latency.reduce((sum, count, i) => sum + (i % 2) * count, 0)).to.equal(this.counts.answered);
    expect(this.budget.used, 'memory held by nobody').to.equal(0);
  }
}

function keepsTheContract(protocol: Protocol): void {
  describe(`the ${protocol.name} protocol`, () => {
    const rigs: Rig[] = [];
    const clients: Client[] = [];
    const open = async (...[changes]: Parameters<typeof Rig.open> extends [unknown, (infer C)?] ? [C?] : never) => {
      const rig = await Rig.open(protocol, changes);
      rigs.push(rig);
      return rig;
    };
    afterEach(async () => {
      for (const { socket } of clients.splice(0)) socket.destroy();
      for (const rig of rigs.splice(0)) await rig.close();
      await endProcesses();
    });

    it('answers each request once, in order, those that fail in their places, however the bytes are cut', async () => {
      const payload = fc.constantFrom('a', 'b', '!', 'wrong');
      await fc.assert(
        fc.asyncProperty(
          fc.array(payload, { maxLength: 40 }),
          fc.array(fc.nat(), { maxLength: 6 }),
          async (all, at) => {
            const rig = await open({ inputBytes: 1 });
            const client = rig.client();
            const bytes = Buffer.concat(all.map((text) => protocol.encode(text)));
            const cuts = [...new Set(at.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
            for (const [i, begin] of [0, ...cuts].entries()) {
              await new Promise((resolve) => client.socket.write(bytes.subarray(begin, cuts[i]), resolve));
              expect(rig.imbalance).to.equal(0);
            }
            const replies = await client.replied(all.length);
            expect(replies).to.deep.equal(
              all.map((text) => (text.length === 1 && text !== '!' ? text.toUpperCase() : '')),
            );
            const failed = all.filter((text) => text === '!').length;
            const refusedBadInput = all.filter((text) => text === 'wrong').length;
            const answered = all.length - failed - refusedBadInput;
            expect(rig.counts).to.include({ received: all.length, answered, failed, refusedBadInput });
            await rigs.pop()?.close();
          },
        ),
        { numRuns: 15 },
      );
    });

    it('refuses what finds the queue full, and answers the rest', async () => {
      const rig = await open({ maxQueue: 8 });
      await rig.occupied();
      const second = rig.client();
      second.send(...'abcdefghij');
      await rig.received(11);
      rig.model.open();
      expect(await second.replied(10)).to.deep.equal([...'ABCDEFGH', '', '']);
      expect(rig.counts).to.include({ answered: 9, refusedQueueFull: 2 });
    });

    it('refuses a payload over the limit after answering those before it, and closes', async () => {
      const rig = await open();
      const client = rig.client();
      client.send('a', 'x'.repeat(1001), 'b');
      await client.closed;
      expect(client.replies).to.deep.equal(['A', '']);
      expect(rig.counts).to.include({ received: 2, answered: 1, refusedPayloadTooLarge: 1 });
    });

    it('answers in vain what is past its deadline, while the run before it still lasts', async () => {
      const rig = await open({ deadlineMs: 100 });
      await rig.occupied();
      const second = rig.client();
      second.send('a', 'b');
      expect(await second.replied(2)).to.deep.equal(['', '']);
      expect(rig.counts).to.include({ expired: 2, answered: 0 });
      expect(rig.model.runs).to.equal(1);
    });

    it('refuses at once what could not be answered by its deadline, and nothing when it is idle', async () => {
      const rig = await open({ deadlineMs: 60_000, cost: new BatchCost([{ rows: 1, ms: 50_000 }]) });
      const first = await rig.occupied();
      const second = rig.client();
      second.send('a', 'b');
      expect(await second.replied(2)).to.deep.equal(['', '']);
      expect(rig.counts).to.include({ refusedOverloaded: 2, answered: 0 });
      rig.model.open();
      expect(await first.replied(1)).to.deep.equal(['X']);
      second.send('c');
      expect(await second.replied(3)).to.deep.equal(['', '', 'C']);
    });

    it('takes no more requests than may be in flight, and the rest when replies have left', async () => {
      const rig = await open({ maxInFlight: 4 });
      rig.model.shut();
      const client = rig.client();
      client.send(...'abcdefghij');
      await rig.received(4);
      const [connection] = rig.connections;
      expect(connection?.inFlight).to.equal(4);
      rig.model.open();
      expect(await client.replied(10)).to.deep.equal([...'ABCDEFGHIJ']);
      expect(rig.counts).to.include({ received: 10, answered: 10 });
    });

    it('counts as abandoned what a client leaves behind, and gives its places to others', async () => {
      const rig = await open({ maxQueue: 8 });
      await rig.occupied();
      const gone = rig.client();
      gone.send(...'abcdefgh');
      await rig.received(9);
      gone.socket.resetAndDestroy();
      await until('the end of the connection', () => rig.connections.size === 1, { intervalMs: 2 });
      expect(rig.counts).to.include({ abandoned: 8 });
      const next = rig.client();
      next.send(...'klmnopqr');
      await rig.received(17);
      rig.model.open();
      expect(await next.replied(8)).to.deep.equal([...'KLMNOPQR']);
      expect(rig.counts).to.include({ answered: 9, refusedQueueFull: 0 });
    });

    it('has what it answered counted, and the counts safe, before a reply leaves', async () => {
      const rig = await open();
      const client = rig.client();
      for (let i = 1; i <= 20; i++) {
        client.send('a');
        await client.replied(i);
        expect(rig.safelyAnswered).to.equal(i);
      }
    });

    it('drains: answers what came in whole, takes no more, and closes', async () => {
      const rig = await open();
      rig.model.shut();
      const client = rig.client();
      client.send('a', 'b');
      await rig.received(2);
      for (const connection of rig.connections) connection.drain();
      client.send('late');
      rig.model.open();
      await client.closed;
      expect(client.replies).to.deep.equal(['A', 'B']);
      expect(rig.counts).to.include({ received: 2, answered: 2 });
    });

    it('has exact totals through a worker that is killed, and drains without losing a request', async function () {
      this.timeout(60_000);
      const env = { ...protocol.env, MODEL: 'dummy', RESPONSE_SIZE: '5', WORKERS: '2' };
      const server = new TestServer({ env, program: 'dist/cli.js' });
      const port = await server.port();
      const reply = 'XXXXX';
      let isOver = false;
      const keepAsking = async (): Promise<void> => {
        while (!isOver) {
          const client = new Client(protocol, port);
          clients.push(client);
          const ask = (): void => {
            const free = 8 - client.sent + client.count(reply);
            if (isOver) client.socket.end();
            else if (free > 0) client.send(...Array.from({ length: free }, () => 'x'));
          };
          client.socket.on('connect', ask).on('data', ask);
          await client.closed;
        }
      };
      const asking = Array.from({ length: 4 }, keepAsking);
      const replies = (): number => clients.reduce((sum, client) => sum + client.count(reply), 0);
      await until('replies', () => replies() >= 200);
      process.kill(workersOf(server)[0] as number, 'SIGKILL');
      await server.event('worker replaced');
      isOver = true;
      for (const { socket } of clients) if (!socket.destroyed) socket.end();
      await Promise.all(asking);
      const got = replies();
      const lost = clients.reduce((sum, client) => sum + client.sent - client.count(reply), 0);
      const metrics = await server.metricsWhen(
        'totals that agree',
        ({ audit_imbalance, in_flight, models, latency_ms }) =>
          audit_imbalance === 0 &&
          in_flight === 0 &&
          latency_ms.count === answered({ models }) &&
          answered({ models }) >= got,
      );
      expect(answered(metrics)).to.be.within(got, got + lost);
      const last = new Client(protocol, port);
      last.send('x');
      await last.replied(1);
      server.signal('SIGTERM');
      last.send(...'xyz');
      await last.closed;
      expect(last.replies.every((text) => text === reply)).to.equal(true);
      expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    });
  });
}

const answered = ({ models }: Pick<Metrics, 'models'>): number =>
  models.find(({ name }) => name === 'dummy')?.answered ?? 0;

for (const protocol of [framed, lines, calls]) keepsTheContract(protocol);
