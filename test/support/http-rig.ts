// The HTTP side of a worker in this process: real sockets, the real service, and models that a test can hold.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Replies, RowSource } from '#src/inference/batch.js';
import type { Model } from '#src/inference/model.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { Recorder } from '#src/metrics/recorder.js';
import { detachHandle, type RawHandle, socketOn } from '#src/net/raw-handle.js';
import { Deadlines } from '#src/serving/deadlines.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import { SharedSecret } from '#src/worker/framed/shared-secret.js';
import type { HttpConnection } from '#src/worker/http/connection.js';
import type { HttpLimits } from '#src/worker/http/context.js';
import { HttpServer } from '#src/worker/http/server.js';
import { CallModels } from '#src/worker/oip/call-models.js';
import { WorkerOip } from '#src/worker/oip/oip-service.js';
import { NodeStatistics } from '#src/worker/oip/statistics.js';
import { type Batching, batcherOf } from './batchers.js';
import { inputPlan, outputPlan, planOf } from './plans.js';
import { until } from './until.js';

/** Doubles numbers, or repeats bytes; at once, or when the test lets it. */
export class HeldModel implements Model {
  readonly inputBytes: number | null;
  readonly outputBytes = null;
  readonly fixedRows = null;
  readonly runsAloneBecause = null;
  readonly plan: ModelPlan | null;
  readonly mayReplyWithInput = false;
  readonly concurrency = 4;
  readonly sample = null;
  readonly description = 'held';
  isHeld = false;
  readonly #runs: (() => void)[] = [];

  constructor(plan: ModelPlan | null, inputBytes: number | null) {
    this.plan = plan;
    this.inputBytes = inputBytes;
  }

  get runs(): number {
    return this.#runs.length;
  }

  run(batch: RowSource): Promise<Replies> {
    const rows = Array.from({ length: batch.rows }, (_, i) => this.#reply(Buffer.from(batch.payload(i))));
    return new Promise((resolve) => {
      const finish = (): void => resolve({ kind: 'rows', rows });
      if (this.isHeld) this.#runs.push(finish);
      else finish();
    });
  }

  /** Lets the runs that wait, and all that follow, finish. */
  release(): void {
    this.isHeld = false;
    for (const finish of this.#runs.splice(0)) finish();
  }

  async close(): Promise<void> {}

  #reply(payload: Buffer): Buffer {
    if (this.plan === null) return payload;
    const doubled = Buffer.alloc(payload.length);
    for (let at = 0; at < payload.length; at += 4) doubled.writeFloatLE(2 * payload.readFloatLE(at), at);
    return doubled;
  }
}

/** x FP32[-1,width] → y FP32[-1,width] */
const numbersOf = (width: number): HeldModel =>
  new HeldModel(
    planOf([inputPlan('x', 'float32', ['b', width])], [outputPlan('y', 'float32', ['b', width])]),
    4 * width,
  );

export interface RigOptions {
  readonly limits?: Partial<HttpLimits>;
  readonly batching?: Partial<Batching>;
  readonly secret?: string;
  readonly maxBufferedBytes?: number;
  /** Whether bytes are read from connections before they are handed over, as the detection of protocols does. */
  readonly readsAhead?: boolean;
  /** Elements of a row of the model `wide`. */
  readonly width?: number;
}

const limitsByDefault: HttpLimits = {
  maxPayloadBytes: 1 << 20,
  maxJsonBytes: 1 << 20,
  maxHeaderBytes: 16 * 1024,
  maxWriteBufferBytes: 1 << 20,
  maxInFlight: 64,
  payloadTimeoutMs: 30_000,
  idleTimeoutMs: 75_000,
  writeTimeoutMs: 60_000,
};

/** Of a worker with the models `double` (x FP32[-1,2]), `echo` (payloads) and `wide`. */
export class HttpRig {
  readonly double = numbersOf(2);
  readonly echo = new HeldModel(null, null);
  readonly wide: HeldModel;
  readonly recorder = new Recorder(['double', 'echo', 'wide']);
  readonly service: WorkerOip;
  readonly http: HttpServer;
  readonly connections = new Set<HttpConnection>();
  readonly #sockets = new Set<Socket>();
  readonly #listening: Server;
  readonly #clients = new Set<Client>();
  readonly #sweep: NodeJS.Timeout;

  private constructor(options: RigOptions) {
    const {
      limits = {},
      batching = {},
      secret,
      maxBufferedBytes = 1 << 27,
      width = 1000,
      readsAhead = false,
    } = options;
    const { recorder } = this;
    this.wide = numbersOf(width);
    const all = { ...limitsByDefault, ...limits };
    const budget = new MemoryBudget(maxBufferedBytes);
    const flush = new ReplyFlush(() => {});
    const models = new Map(Object.entries({ double: this.double, echo: this.echo, wide: this.wide }));
    const batches = { maxBatchSize: 64, maxQueue: 1000, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false };
    const batchers = new Map([...models].map(([name, model]) => [name, batcherOf(model, { ...batches, ...batching })]));
    const endpoints = new Map(
      [...batchers].map(([name, batcher]) => [
        name,
        new ModelEndpoint({ batcher, recorder: recorder.model(name), limits: all, budget, flush }),
      ]),
    );
    const served = new Map(
      [...models].map(([name, { plan, inputBytes }]) => [
        name,
        {
          backend: plan === null ? 'module' : 'onnx',
          plan,
          inputBytes,
          version: 'unversioned',
          maxQueueDelayMs: 0,
          mostRunRows: 64,
        } as const,
      ]),
    );
    const statistics = new NodeStatistics({
      ask: async ({ question }) => {
        setImmediate(() => statistics.answered({ kind: 'statistics', question, models: {} }));
      },
      timeoutMs: 1000,
    });
    this.service = new WorkerOip({
      models: new CallModels(recorder, served, endpoints, () => 1000),
      serving: { budget, flush, deadlines: new Deadlines(), maxInFlight: all.maxInFlight },
      statistics,
    });
    this.http = new HttpServer({
      service: this.service,
      limits: all,
      recorder,
      secret: secret === undefined ? null : new SharedSecret(secret),
    });
    this.#listening = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (accepted) => {
      // As in a worker: on the handle of a connection that the primary has accepted.
      const socket = socketOn(detachHandle(accepted) as RawHandle);
      if (readsAhead)
        socket.once('data', (chunk) => {
          socket.pause();
          socket.unshift(Buffer.from(chunk));
          this.#serve(socket);
        });
      if (readsAhead) socket.resume();
      else this.#serve(socket);
    });
    this.#sweep = setInterval(() => {
      for (const connection of this.connections) connection.checkTimeouts(performance.now());
    }, 10);
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    const connection = this.http.serve(socket, {
      listener: { models: ['double', 'echo', 'wide'], defaultModel: null },
      address: '127.0.0.1',
      onClose: () => this.connections.delete(connection),
    });
    this.connections.add(connection);
    connection.start();
  }

  static async open(options: RigOptions = {}): Promise<HttpRig> {
    const rig = new HttpRig(options);
    rig.#listening.listen(0, '127.0.0.1');
    await once(rig.#listening, 'listening');
    return rig;
  }

  get port(): number {
    return (this.#listening.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get counts() {
    return this.recorder.snapshot();
  }

  async client(): Promise<Client> {
    const client = await Client.connect(this.port);
    this.#clients.add(client);
    return client;
  }

  /** From all clients. */
  get bytesRead(): number {
    return [...this.#sockets].reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  }

  /** How connections have ended, by counter; those that never happened are left out. */
  get closedBy(): Readonly<Record<string, number>> {
    return this.counted(/^closedBy/);
  }

  counted(names: RegExp): Readonly<Record<string, number>> {
    const { models: _, ...counters } = this.counts;
    return Object.fromEntries(
      Object.entries(counters as unknown as Readonly<Record<string, number>>).filter(
        ([name, count]) => names.test(name) && count > 0,
      ),
    );
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.double.release();
    for (const client of this.#clients) client.socket.destroy();
    for (const connection of this.connections) connection.destroy();
    this.#listening.close();
    await this.http.close();
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** A client that sends bytes, and reads answers with a reader of its own. */
export class Client {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;
  /** The server has sent its last byte. */
  hasEnded = false;
  /** Its connection was reset, for example. */
  error: NodeJS.ErrnoException | null = null;
  #bytes = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', (error) => {
      this.error = error;
    });
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
    });
    socket.on('end', () => {
      this.hasEnded = true;
    });
    this.closed = new Promise((resolve) => socket.once('close', resolve));
  }

  static async connect(port: number): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
    await once(socket, 'connect');
    return new Client(socket);
  }

  send(...parts: readonly (string | Buffer)[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))));
  }

  /** Answers that have come whole. */
  get answers(): readonly Answer[] {
    return parseAnswers(this.#bytes);
  }

  get received(): string {
    return this.#bytes.toString('latin1');
  }

  async answered(count: number): Promise<readonly Answer[]> {
    return until(`${count} answers`, () => this.answers.length >= count && this.answers, { intervalMs: 2 });
  }

  /** The answer to what was sent last, when there are so many. */
  async answer(count = 1): Promise<Answer> {
    return (await this.answered(count))[count - 1] as Answer;
  }

  async ended(): Promise<void> {
    await until('the end of the connection', () => this.hasEnded, { intervalMs: 2 });
    this.socket.end();
  }
}

export const jsonIn = ({ body }: Answer): Record<string, unknown> =>
  JSON.parse(body.toString()) as Record<string, unknown>;

/** Content-Length alone: the server never sends chunks. Throws at what is no answer. */
export function parseAnswers(bytes: Buffer): readonly Answer[] {
  const answers: Answer[] = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end < 0) return answers;
    const [line = '', ...rest] = bytes.toString('latin1', at, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1]);
    if (Number.isNaN(status)) throw new Error(`this is no answer: ${JSON.stringify(line)}`);
    const headers = Object.fromEntries(
      rest.map((header) => {
        const [name = '', ...value] = header.split(': ');
        return [name.toLowerCase(), value.join(': ')];
      }),
    );
    const from = end + 4;
    const length = status < 200 ? 0 : Number(headers['content-length']);
    if (Number.isNaN(length)) throw new Error('an answer has no Content-Length');
    if (bytes.length < from + length) return answers;
    answers.push({ status, headers, body: Buffer.from(bytes.subarray(from, from + length)) });
    at = from + length;
  }
}

/** The bytes of a request; of a POST, with its length. */
export function requestBytes(
  method: string,
  path: string,
  headers: Readonly<Record<string, string | number>> = {},
  body: Buffer | string | null = null,
): Buffer {
  const all = { Host: 'test', ...(body === null ? {} : { 'Content-Length': Buffer.byteLength(body) }), ...headers };
  const lines = [`${method} ${path} HTTP/1.1`, ...Object.entries(all).map(([name, value]) => `${name}: ${value}`)];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), Buffer.from(body ?? '')]);
}

/** A row for the model `double`, in JSON. */
export const doubleJson = (x: readonly number[], more: object = {}): string =>
  JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, x.length], data: x }], ...more });

/** The same with binary tensors both ways: the body, and how many bytes of it are JSON. */
export function doubleBinary(x: readonly number[]): { readonly body: Buffer; readonly jsonBytes: number } {
  const data = Buffer.from(Float32Array.from(x).buffer);
  const json = JSON.stringify({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, x.length], parameters: { binary_data_size: data.length } }],
    parameters: { binary_data_output: true },
  });
  return { body: Buffer.concat([Buffer.from(json), data]), jsonBytes: json.length };
}
