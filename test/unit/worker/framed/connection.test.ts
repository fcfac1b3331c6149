import { Duplex } from 'node:stream';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Model } from '#src/inference/model.js';
import { Recorder } from '#src/metrics/recorder.js';
import { BufferPool } from '#src/protocol/buffer-pool.js';
import { encodeFrame, FrameDecoder, type LengthFieldSize } from '#src/protocol/frames.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint, type RequestLimits } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import { Connection, type ConnectionLimits } from '#src/worker/framed/connection.js';
import { rawFrames } from '#src/worker/framed/raw.js';
import { SharedSecret } from '#src/worker/framed/shared-secret.js';
import { batcherOf } from '../../../support/batchers.js';
import { withClock } from '../../../support/clock.js';

const limits: Limits = {
  lengthFieldSize: 4,
  maxPayloadBytes: 1000,
  maxInFlight: 8,
  maxWriteBufferBytes: 1 << 20,
  payloadTimeoutMs: 1000,
  idleTimeoutMs: 0,
  writeTimeoutMs: 60_000,
};

const batching = { maxBatchSize: 4, maxQueue: 100, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false };

/** The server's end of a connection; a test sends bytes as the client, and decides when the client takes replies. */
class Wire extends Duplex {
  readonly received: Buffer[] = [];
  isStuck = false;
  #stuck: (() => void)[] = [];

  constructor() {
    super({ allowHalfOpen: true, writableHighWaterMark: 64 });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.received.push(Buffer.from(chunk)); // its memory may be reused when this is done
    if (this.isStuck) this.#stuck.push(done);
    else done();
  }

  unstick(): void {
    this.isStuck = false;
    for (const done of this.#stuck.splice(0)) done();
  }

  get replies(): string[] {
    const decoder = new FrameDecoder(4, 1 << 20);
    decoder.push(Buffer.concat(this.received));
    const replies: string[] = [];
    while (decoder.next() === 'frame') replies.push(decoder.source.toString('latin1', decoder.start, decoder.end));
    return replies;
  }
}

type Limits = ConnectionLimits & RequestLimits & { readonly lengthFieldSize: LengthFieldSize };

interface Guards {
  readonly budget: MemoryBudget;
  readonly secret: SharedSecret | null;
}

function serve(
  model: Partial<Model> = {},
  changes: Partial<typeof limits> = {},
  { budget = new MemoryBudget(1 << 20), secret = null }: Partial<Guards> = {},
) {
  const wire = new Wire();
  const recorder = new Recorder(['m']);
  const echo: Model = {
    inputBytes: null,
    outputBytes: null,
    fixedRows: null,
    runsAloneBecause: null,
    plan: null,
    mayReplyWithInput: true,
    concurrency: 1,
    sample: null,
    description: 'echo',
    run: (batch) => {
      return { kind: 'rows', rows: Array.from({ length: batch.rows }, (_, i) => batch.payload(i)) };
    },
    close: async () => {},
    ...model,
  };
  const served = { ...limits, ...changes };
  const endpoint = new ModelEndpoint({
    batcher: batcherOf(echo, batching),
    recorder: recorder.model('m'),
    limits: served,
    budget,
    flush: new ReplyFlush(() => {}),
  });
  let isClosed = false;
  const pool = new BufferPool(1 << 20);
  const dialect = rawFrames(endpoint, { ...served, secret, pool });
  const connection = new Connection(wire, dialect, { limits: served, recorder, pool }, () => {
    isClosed = true;
  });
  return {
    wire,
    connection,
    counts: () => recorder.snapshot(),
    model: () => recorder.snapshot().models.m,
    isClosed: () => isClosed,
  };
}

const frames = (...texts: string[]): Buffer =>
  Buffer.concat(texts.map((text) => encodeFrame(Buffer.from(text, 'latin1'), 4)));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await turn();
};

describe('a connection', () => {
  withClock();

  it('answers every request once and in order, however the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ maxLength: 40 }), { maxLength: 30 }),
        fc.array(fc.nat()),
        async (texts, places) => {
          const { wire, model } = serve();
          const stream = frames(...texts);
          const cuts = [...new Set(places.map((place) => place % (stream.length + 1)))].sort((a, b) => a - b);
          for (const [i, begin] of [0, ...cuts].entries()) {
            wire.push(Buffer.from(stream.subarray(begin, cuts[i] ?? stream.length)));
            if (i % 3 === 0) await turn();
          }
          await turns(20);
          expect(wire.replies).to.deep.equal(texts.map((text) => Buffer.from(text, 'latin1').toString('latin1')));
          expect(model()).to.include({ received: texts.length, answered: texts.length });
          wire.destroy();
        },
      ),
      { numRuns: 50 },
    );
  });

  it('answers a bad row with an empty frame in its place, and the others all the same', async () => {
    const { wire, model } = serve({ inputBytes: 2 });
    wire.push(frames('ab', 'abc', 'cd', '', 'ef'));
    await turns(3);
    expect(wire.replies).to.deep.equal(['ab', '', 'cd', '', 'ef']);
    expect(model()).to.include({ received: 5, answered: 3, refusedBadInput: 2 });
  });

  it('fails a single row that the model failed, and a batch that it failed', async () => {
    const picky = serve({
      run: (batch) => ({
        kind: 'rows',
        rows: Array.from({ length: batch.rows }, (_, i) =>
          String(batch.payload(i)) === 'bad' ? new Error('bad') : batch.payload(i),
        ),
      }),
    });
    picky.wire.push(frames('a', 'bad', 'b'));
    await turns(2);
    expect(picky.wire.replies).to.deep.equal(['a', '', 'b']);
    expect(picky.model()).to.include({ answered: 2, failed: 1 });
    const broken = serve({ run: () => Promise.reject(new Error('broken')) });
    broken.wire.push(frames('a', 'b'));
    await turns(2);
    expect(broken.wire.replies).to.deep.equal(['', '']);
    expect(broken.model()).to.include({ received: 2, failed: 2 });
  });

  it('refuses what finds the queue full, at once and in order', async () => {
    const { wire, model } = serve({}, { maxInFlight: 1000 });
    const texts = Array.from({ length: 130 }, (_, i) => String(i));
    wire.push(frames(...texts));
    await turns(3);
    expect(wire.replies).to.deep.equal(texts.map((text, i) => (i < 100 ? text : '')));
    expect(model()).to.include({ received: 130, answered: 100, refusedQueueFull: 30 });
  });

  it('fails a reply that the length field cannot say', async () => {
    const { wire, model } = serve(
      { run: () => ({ kind: 'uniform', bytes: Buffer.alloc(70_000), rowBytes: 70_000, stride: 0 }) },
      { lengthFieldSize: 2 },
    );
    wire.push(encodeFrame(Buffer.from('x'), 2));
    await turns(2);
    expect(Buffer.concat(wire.received)).to.deep.equal(Buffer.alloc(2));
    expect(model()).to.include({ failed: 1, answered: 0 });
  });

  it('refuses a frame over the limit after answering those before it, and closes', async () => {
    const { wire, model, counts, isClosed } = serve();
    wire.push(Buffer.concat([frames('a'), Buffer.from('000003e9', 'hex'), Buffer.alloc(5000)]));
    await turns(3);
    expect(wire.replies).to.deep.equal(['a', '']);
    expect(wire.writableEnded).to.equal(true);
    expect(model()).to.include({ received: 2, answered: 1, refusedPayloadTooLarge: 1 });
    wire.push(null);
    await turns(3);
    expect(isClosed()).to.equal(true);
    expect(counts()).to.include({ closedByPayloadTooLarge: 1 });
  });

  it('stops reading at the limit of requests in flight, and goes on when replies have left', async () => {
    let release = (): void => {};
    const { wire, connection, counts } = serve({
      run: async (batch) => {
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        return { kind: 'rows', rows: Array.from({ length: batch.rows }, (_, i) => batch.payload(i)) };
      },
    });
    const texts = Array.from({ length: 30 }, (_, i) => String(i));
    wire.push(frames(...texts));
    await turns(2);
    expect(connection.inFlight).to.equal(limits.maxInFlight);
    expect(wire.isPaused()).to.equal(true);
    for (let i = 0; i < 40 && wire.replies.length < 30; i++) {
      release();
      await turns(2);
      expect(connection.inFlight).to.be.at.most(limits.maxInFlight);
    }
    expect(wire.replies).to.deep.equal(texts);
    expect(wire.isPaused()).to.equal(false);
    expect(counts().pausedByInFlight).to.be.above(0);
    expect(counts().pausedByWriteBuffer).to.equal(0);
  });

  it('stops reading from a client that does not read, and goes on when it does', async () => {
    const { wire, model, counts } = serve({}, { maxWriteBufferBytes: 100, maxInFlight: 2 });
    wire.isStuck = true;
    const texts = Array.from({ length: 50 }, () => 'x'.repeat(50));
    wire.push(frames(...texts));
    await turns(50);
    expect(wire.writableLength).to.be.at.most(100 + 2 * 54);
    expect(wire.isPaused()).to.equal(true);
    expect(model()?.received).to.be.below(10);
    expect(counts().pausedByWriteBuffer).to.be.above(0);
    wire.unstick();
    await turns(200);
    expect(wire.replies).to.deep.equal(texts);
  });

  it('answers what came before the client closed its side, then closes too', async () => {
    const { wire, counts, isClosed } = serve();
    wire.push(Buffer.concat([frames('a', 'b'), Buffer.from('0000', 'hex')]));
    wire.push(null);
    await turns(5);
    expect(wire.replies).to.deep.equal(['a', 'b']);
    expect(isClosed()).to.equal(true);
    expect(counts()).to.include({ closedByClient: 1, framesTruncated: 1 });
  });

  it('counts requests as abandoned whose client is gone', async () => {
    const { wire, model, counts } = serve({ run: () => new Promise(() => {}) });
    wire.push(frames('a', 'b', 'c'));
    await turns(2);
    wire.destroy(new Error('reset'));
    await turns(2);
    expect(model()).to.include({ received: 3, abandoned: 3, answered: 0 });
    expect(counts()).to.include({ closedByError: 1 });
  });

  it('closes when a frame is not finished in time, but not between frames', async () => {
    const { wire, connection, counts } = serve();
    wire.push(frames('a'));
    await turns(2);
    connection.checkTimeouts(performance.now() + 1e6);
    expect(wire.writableEnded).to.equal(false);
    wire.push(Buffer.from('000000', 'hex'));
    await turns(2);
    connection.checkTimeouts(performance.now() + 500);
    expect(wire.writableEnded).to.equal(false);
    connection.checkTimeouts(performance.now() + 1001);
    expect(wire.writableEnded).to.equal(true);
    wire.push(null);
    await turns(3);
    expect(counts()).to.include({ closedByPayloadTimeout: 1, framesTruncated: 1 });
  });

  it('closes when it is idle for longer than allowed', async () => {
    const { wire, connection, counts } = serve({}, { idleTimeoutMs: 5000 });
    connection.checkTimeouts(performance.now() + 4000);
    expect(wire.writableEnded).to.equal(false);
    connection.checkTimeouts(performance.now() + 5001);
    expect(wire.writableEnded).to.equal(true);
    wire.push(null);
    await turns(3);
    expect(counts()).to.include({ closedByIdleTimeout: 1 });
  });

  it('is cut when its client takes nothing of its replies for longer than allowed', async () => {
    const { wire, connection, counts } = serve({}, { writeTimeoutMs: 5000 });
    const now = performance.now();
    wire.isStuck = true;
    wire.push(frames('a'));
    await turns(3);
    connection.checkTimeouts(now + 10_000);
    wire.unstick();
    await turns(3);
    wire.isStuck = true;
    wire.push(frames('b'));
    await turns(3);
    connection.checkTimeouts(now + 14_000);
    connection.checkTimeouts(now + 18_000);
    expect(wire.destroyed, 'it took a reply in between').to.equal(false);
    connection.checkTimeouts(now + 19_001);
    await turns(3);
    expect(wire.destroyed).to.equal(true);
    expect(counts()).to.include({ closedByWriteTimeout: 1 });
  });

  it('serves who shows the shared secret first, in whatever pieces it comes, and says nothing to it', async () => {
    for (const cut of [0, 3, 9, 10]) {
      const { wire, model } = serve({}, {}, { secret: new SharedSecret('sesame') });
      const bytes = frames('sesame', 'a', 'b');
      wire.push(bytes.subarray(0, cut));
      await turn();
      wire.push(bytes.subarray(cut));
      await turns(3);
      expect(wire.replies).to.deep.equal(['a', 'b']);
      expect(model()).to.include({ received: 2, answered: 2 });
      wire.destroy();
    }
  });

  it('closes when the first frame is another one, or is longer than a secret can be, and asks no model', async () => {
    for (const first of ['open', '', 'sesame ', 'x'.repeat(300)]) {
      const { wire, model, counts } = serve({}, {}, { secret: new SharedSecret('sesame') });
      wire.push(frames(first, 'sesame', 'a'));
      await turns(3);
      wire.push(null);
      await turns(3);
      expect(wire.replies).to.deep.equal(['']);
      expect(wire.writableEnded).to.equal(true);
      expect(model()).to.include({ received: 0 });
      expect(counts()).to.include({ closedBySecret: 1 });
    }
  });

  it('closes when the secret does not come in time, however busy the client is with it', async () => {
    const { wire, connection, counts } = serve({}, {}, { secret: new SharedSecret('sesame') });
    connection.checkTimeouts(performance.now() + 900);
    expect(wire.writableEnded).to.equal(false);
    wire.push(frames('sesame').subarray(0, 5));
    await turn();
    connection.checkTimeouts(performance.now() + 1001);
    expect(wire.writableEnded).to.equal(true);
    wire.push(null);
    await turns(3);
    expect(counts()).to.include({ closedBySecret: 1 });
  });

  it('holds what it has not answered, and nothing when it has', async () => {
    const budget = new MemoryBudget(1 << 20);
    const { wire } = serve({}, {}, { budget });
    wire.push(frames('abc').subarray(0, 6));
    await turn();
    expect(budget.used, 'a half frame').to.equal(6);
    wire.push(frames('abc').subarray(6));
    expect(budget.used, 'a request that waits').to.equal(3);
    wire.isStuck = true;
    await turns(3);
    expect(budget.used, 'a reply that is not taken').to.equal(7);
    wire.unstick();
    wire.push(frames('d').subarray(0, 1));
    await turns(3);
    expect(budget.used).to.equal(1);
    wire.destroy();
    await turns(2);
    expect(budget.used).to.equal(0);
  });

  it('stops reading while there is no memory for more, and goes on when there is', async () => {
    const budget = new MemoryBudget(1 << 20);
    const other = { resumeReading: () => {}, endTurn: () => {} };
    budget.join();
    budget.hold(other, (1 << 20) - 100, 0);
    const { wire, counts, model } = serve({}, { maxPayloadBytes: 1 << 20 }, { budget });
    const large = 'x'.repeat(600_000);
    const bytes = frames(large, 'after');
    wire.push(bytes.subarray(0, 300_000));
    await turns(2);
    expect(wire.isPaused()).to.equal(true);
    expect(counts()).to.include({ pausedByMemory: 1 });
    wire.push(bytes.subarray(300_000));
    budget.leave(other, (1 << 20) - 100);
    await turns(5);
    expect(wire.isPaused()).to.equal(false);
    expect(wire.replies).to.deep.equal([large, 'after']);
    expect(model()).to.include({ answered: 2 });
    wire.destroy();
  });

  it('drains: answers what came in whole, takes nothing more, and closes', async () => {
    const { wire, connection, counts } = serve();
    wire.push(frames('a', 'b'));
    await turn();
    connection.drain();
    wire.push(frames('late'));
    await turns(3);
    expect(wire.replies).to.deep.equal(['a', 'b']);
    expect(wire.writableEnded).to.equal(true);
    wire.push(null);
    await turns(3);
    expect(counts()).to.include({ closedByDrain: 1 });
  });
});
