import { expect } from 'chai';
import type { Batch, BatchEntry, BatchOutcome, Replies, RowSource } from '#src/inference/batch.js';
import { fixedBatchSize } from '#src/inference/batch-size.js';
import type { Batcher, FinishedBatch } from '#src/inference/batcher.js';
import { type Model, SharedRunError, ThreadCrashedError } from '#src/inference/model.js';
import { longestHoldMs } from '#src/inference/outcome.js';
import { type Batching, batcherOf } from '../../support/batchers.js';
import { withClock } from '../../support/clock.js';

const limits: Batching = { maxBatchSize: 4, maxQueue: 10, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false };

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const payloadsOf = (rows: RowSource): Buffer[] => Array.from({ length: rows.rows }, (_, i) => rows.payload(i));
const echoed = (rows: RowSource): Replies => ({ kind: 'rows', rows: payloadsOf(rows) });

/** A model that records its calls; `answer` may do something other than echo. */
class Recorded implements Model {
  readonly inputBytes = null;
  readonly outputBytes = null;
  readonly fixedRows = null;
  readonly runsAloneBecause = null;
  readonly plan = null;
  readonly mayReplyWithInput = true;
  readonly sample = null;
  readonly description = 'echo';
  readonly calls: string[] = [];
  readonly concurrency: number;
  readonly #answer: (rows: RowSource, call: number) => Replies | Promise<Replies>;
  /** Ends the runs of a model made with `held`, the oldest first. */
  readonly holds: (() => void)[] = [];

  constructor(answer: (rows: RowSource, call: number) => Replies | Promise<Replies> = echoed, concurrency = 1) {
    this.#answer = answer;
    this.concurrency = concurrency;
  }

  /** A model whose runs last until they are released. */
  static held(concurrency = 1): Recorded {
    const model: Recorded = new Recorded(async (rows) => {
      const replies = { kind: 'rows', rows: payloadsOf(rows).map((row) => Buffer.from(row)) } as const;
      await new Promise<void>((resolve) => model.holds.push(resolve));
      return replies;
    }, concurrency);
    return model;
  }

  /** Ends a run as soon as it has begun. */
  async release(run: number): Promise<void> {
    while (this.holds[run] === undefined) await turn();
    this.holds[run]();
  }

  run(rows: RowSource): Replies | Promise<Replies> {
    this.calls.push(payloadsOf(rows).map(String).join(''));
    return this.#answer(rows, this.calls.length);
  }

  async close(): Promise<void> {}
}

/** Answers after a time in which nothing else can run. */
const holding =
  (ms: number) =>
  (rows: RowSource): Replies => {
    const until = performance.now() + ms;
    while (performance.now() < until);
    return echoed(rows);
  };

/** One request of one letter and its outcome: the reply, 'failed' or 'expired'. */
class Asker implements BatchEntry {
  readonly arrivedAt = performance.now();
  readonly requests = 1;
  rows = 0;
  first: number;
  batch: Batch;
  readonly reply: Promise<string>;
  #resolve: (reply: string) => void = () => {};

  constructor(batch: Batch, text: string) {
    this.batch = batch;
    this.first = batch.rows;
    this.reply = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    batch.enter(this);
    batch.add(Buffer.from(text), 0, text.length);
    batch.retain();
    this.rows = 1;
  }

  split(): never {
    return expect.fail('it has one row');
  }

  moved(batch: Batch, first: number): void {
    this.batch = batch;
    this.first = first;
  }

  settled(): void {
    this.#resolve(textOf(this.batch.outcome as BatchOutcome, this.first));
  }

  expired(): void {
    this.#resolve('expired');
  }
}

function textOf(outcome: BatchOutcome, row: number): string {
  if (outcome.kind === 'failed') return `failed: ${outcome.error.message}`;
  if (outcome.kind === 'uniform') return 'uniform';
  const reply = outcome.rows[row];
  return reply instanceof Error ? `failed: ${reply.message}` : Buffer.from(reply as Uint8Array).toString();
}

function ask(batcher: Batcher, text: string): Asker {
  const batch = batcher.openBatch(batcher);
  if (batch === null) throw new Error('the queue is full');
  return new Asker(batch, text);
}

const askAll = (batcher: Batcher, texts: string): Promise<string[]> =>
  Promise.all([...texts].map((text) => ask(batcher, text).reply));

describe('the batcher', () => {
  it('makes one call of all rows that came in one turn', async () => {
    const model = new Recorded();
    const batcher = batcherOf(model, limits);
    expect(await askAll(batcher, 'abc')).to.deep.equal(['a', 'b', 'c']);
    await askAll(batcher, 'd');
    expect(model.calls).to.deep.equal(['abc', 'd']);
  });

  it('runs at the end of the callback what nobody can add to, and yields to the event loop all the same', async () => {
    const model = new Recorded();
    const batcher = batcherOf(model, limits);
    batcher.setHasOtherSources(false);
    const isFirst = Promise.race([askAll(batcher, 'abc'), turn().then(() => 'the turn was over before')]);
    expect(await isFirst).to.deep.equal(['a', 'b', 'c']);
    expect(model.calls).to.deep.equal(['abc']);

    const slow = batcherOf(new Recorded(holding(longestHoldMs * 2)), { ...limits, maxBatchSize: 1 });
    slow.setHasOtherSources(false);
    let turns = 0;
    const all = askAll(slow, 'abc');
    const count = (): void => void (++turns < 10 && setImmediate(count));
    count();
    await all;
    expect(turns, 'turns of the event loop between the runs').to.be.greaterThan(1);
  });

  it('cuts a batch when it is full', async () => {
    const model = new Recorded();
    await askAll(batcherOf(model, limits), 'abcdefghi');
    expect(model.calls).to.deep.equal(['abcd', 'efgh', 'i']);
  });

  it('collects the next batch while one runs', async () => {
    const model = Recorded.held();
    const batcher = batcherOf(model, limits);
    const first = ask(batcher, 'a').reply;
    await turn();
    const rest = askAll(batcher, 'bc');
    await turn();
    expect(batcher.queuedRows).to.equal(2);
    expect(model.calls).to.deep.equal(['a']);
    await model.release(0);
    expect(await first).to.equal('a');
    await turn();
    await model.release(1);
    await rest;
    expect(model.calls).to.deep.equal(['a', 'bc']);
  });

  it('has as many batches run at once as the model takes', async () => {
    const model = Recorded.held(2);
    const batcher = batcherOf(model, limits);
    const all = askAll(batcher, 'abcdefghi');
    await turn();
    expect(model.calls).to.deep.equal(['abcd', 'efgh']);
    await model.release(1);
    await turn();
    expect(model.calls).to.deep.equal(['abcd', 'efgh', 'i']);
    await model.release(0);
    await model.release(2);
    expect((await all).join('')).to.equal('abcdefghi');
  });

  it('refuses a row when the queue is full, and takes rows again afterwards', async () => {
    const batcher = batcherOf(new Recorded(), limits);
    const asked = askAll(batcher, 'abcdefghij');
    expect(batcher.openBatch(batcher)).to.equal(null);
    await asked;
    expect(await ask(batcher, 'x').reply).to.equal('x');
  });

  it('gives the place of a client that has gone to others, and spares the run', async () => {
    const model = Recorded.held();
    const batcher = batcherOf(model, limits);
    const first = ask(batcher, 'a').reply;
    await turn();
    const gone = [...'bcdefghijk'].map((text) => ask(batcher, text));
    expect(batcher.openBatch(batcher)).to.equal(null);
    for (const asker of gone.slice(0, -1)) batcher.cancel(asker.batch, asker);
    expect(batcher.queuedRows).to.equal(1);
    const last = ask(batcher, 'l').reply;
    await model.release(0);
    await first;
    await turn();
    await model.release(1);
    expect(await Promise.all([gone.at(-1)?.reply, last])).to.deep.equal(['k', 'l']);
    expect(model.calls).to.deep.equal(['a', 'kl']);
    expect(batcher.queuedRows).to.equal(0);
  });

  it('answers nobody twice and frees no place twice when a client goes during the run', async () => {
    const model = Recorded.held();
    const batcher = batcherOf(model, limits);
    const asker = ask(batcher, 'a');
    await turn();
    batcher.cancel(asker.batch, asker);
    expect(batcher.queuedRows).to.equal(0);
  });

  it('fails a batch whose model throws or rejects, and goes on', async () => {
    for (const fail of [
      () => {
        throw new Error('no luck');
      },
      () => Promise.reject(new Error('no luck')),
    ]) {
      const batcher = batcherOf(new Recorded((rows, call) => (call === 1 ? fail() : echoed(rows))), limits);
      expect(await askAll(batcher, 'ab')).to.deep.equal(['failed: no luck', 'failed: no luck']);
      expect(await askAll(batcher, 'c')).to.deep.equal(['c']);
    }
  });

  it('fails a batch whose model throws what no text can be made of, and goes on', async () => {
    const fail = () => Promise.reject(Object.create(null));
    const batcher = batcherOf(new Recorded((rows, call) => (call === 1 ? fail() : echoed(rows))), limits);
    const [failed] = await askAll(batcher, 'a');
    expect(failed).to.match(/^failed: a value that is no Error/);
    expect(await askAll(batcher, 'b')).to.deep.equal(['b']);
  });

  it('fails a batch whose model returns the wrong number of replies', async () => {
    for (const replies of [
      { kind: 'rows', rows: [Buffer.alloc(1)] },
      { kind: 'rows', rows: undefined as never },
      { kind: 'uniform', bytes: Buffer.alloc(7), rowBytes: 4, stride: 4 },
    ] satisfies Replies[]) {
      const batcher = batcherOf(new Recorded(() => replies), limits);
      expect((await askAll(batcher, 'ab'))[0]).to.match(/failed: the model returned .* 2 (replies|payloads)/);
    }
  });

  it('tells the observer of every batch and why it was closed', async () => {
    const seen: FinishedBatch[] = [];
    const batcher = batcherOf(new Recorded(), limits, (finished) => void seen.push(finished));
    await askAll(batcher, 'abcde');
    expect(seen.map(({ batch, closedBy }) => [batch.rows, closedBy])).to.deep.equal([
      [4, 'full'],
      [1, 'turn'],
    ]);
    for (const { startedAt, runMs, batch } of seen) {
      expect(runMs).to.be.at.least(0);
      expect(startedAt).to.be.at.least(batch.oldestAt);
    }
  });
});

describe('the batcher: waiting for fuller batches', () => {
  const clock = withClock();
  const patient = { ...limits, maxQueueDelayMs: 30 };

  it('waits from the first row on, and no longer', async () => {
    const seen: FinishedBatch[] = [];
    const model = new Recorded();
    const batcher = batcherOf(model, patient, (finished) => void seen.push(finished));
    const first = ask(batcher, 'a');
    await turn();
    await turn();
    const second = ask(batcher, 'b').reply;
    await clock().tickAsync(29);
    expect(model.calls).to.deep.equal([]);
    await clock().tickAsync(1);
    await Promise.all([first.reply, second]);
    expect(model.calls).to.deep.equal(['ab']);
    expect(seen[0]?.closedBy).to.equal('delay');
    expect((seen[0]?.startedAt ?? 0) - first.arrivedAt).to.equal(30);
  });

  it('does not wait when the batch is full', async () => {
    const seen: FinishedBatch[] = [];
    const batcher = batcherOf(new Recorded(), { ...patient, maxQueueDelayMs: 60_000 }, (f) => void seen.push(f));
    await askAll(batcher, 'abcd');
    expect(seen.map(({ closedBy }) => closedBy)).to.deep.equal(['full']);
  });

  it('is passed by nobody who comes later, when more than a batch waits', async () => {
    const model = Recorded.held();
    const batcher = batcherOf(model, { ...patient, maxQueueDelayMs: 60_000 });
    const first = askAll(batcher, 'abcd');
    await turn();
    const gone = ask(batcher, 'x');
    const others = askAll(batcher, 'efgh');
    batcher.cancel(gone.batch, gone);
    const last = askAll(batcher, 'ijk');
    for (const run of [0, 1, 2]) await model.release(run);
    await Promise.all([first, others, last]);
    expect(model.calls).to.deep.equal(['abcd', 'efgh', 'ijk']);
  });

  it('does not wait when it drains', async () => {
    const seen: FinishedBatch[] = [];
    const batcher = batcherOf(new Recorded(), { ...patient, maxQueueDelayMs: 60_000 }, (f) => void seen.push(f));
    const waiting = askAll(batcher, 'a');
    await turn();
    batcher.drain();
    await waiting;
    await askAll(batcher, 'b');
    expect(seen.map(({ closedBy }) => closedBy)).to.deep.equal(['drain', 'drain']);
  });
});

describe('the batcher: deadlines', () => {
  const clock = withClock();

  it('drops what is past its deadline before it costs a run', async () => {
    const model = Recorded.held();
    const batcher = batcherOf(model, { ...limits, deadlineMs: 40 });
    const first = ask(batcher, 'a').reply;
    await turn();
    const late = ask(batcher, 'b').reply;
    clock().tick(50);
    const fresh = ask(batcher, 'c').reply;
    await model.release(0);
    expect(await first, 'a run that has begun is not dropped').to.equal('a');
    expect(await late).to.equal('expired');
    await turn();
    expect(batcher.queuedRows).to.equal(0);
    await model.release(1);
    // The first run took longer than a whole deadline; the batcher reserves at most half a deadline for the next one.
    expect(await fresh).to.equal('c');
    expect(model.calls).to.deep.equal(['a', 'c']);
  });

  it('tells them at their deadline even when the run before them never ends', async () => {
    const batcher = batcherOf(Recorded.held(), { ...limits, deadlineMs: 40 });
    void ask(batcher, 'a');
    await turn();
    const late = askAll(batcher, 'bcdefg');
    clock().tick(40);
    expect(batcher.queuedRows).to.equal(6);
    clock().tick(40 / 4);
    expect(await late).to.deep.equal(Array(6).fill('expired'));
    expect(batcher.queuedRows).to.equal(0);
  });
});

describe('the batcher: overload', () => {
  const clock = withClock();

  // Late rows are found when they would be run, or earlier, by the sweep of the queue.
  for (const [found, heldMs] of [
    ['when they are due', 410],
    ['while they wait', 510],
  ] as const)
    it(`does not make batches smaller: rows that have expired, found ${found}, are replaced by the next`, async () => {
      const model = Recorded.held();
      const batcher = batcherOf(model, { ...limits, maxQueue: 100, deadlineMs: 400 });
      const first = ask(batcher, 'a').reply;
      await turn();
      const late = askAll(batcher, 'bcdefg');
      clock().tick(heldMs);
      const fresh = askAll(batcher, 'hijklmn');
      await model.release(0);
      await first;
      expect(await late).to.deep.equal(Array(6).fill('expired'));
      await turn();
      expect(batcher.queuedRows).to.equal(3);
      await model.release(1);
      await turn();
      await model.release(2);
      expect((await fresh).join('')).to.equal('hijklmn');
      expect(model.calls).to.deep.equal(['a', 'hijk', 'lmn']);
      expect(batcher.queuedRows).to.equal(0);
    });

  it('of a model that is slower than its deadline still has fresh requests tried', async () => {
    const model = new Recorded(async (rows) => {
      clock().tick(60);
      return echoed(rows);
    });
    const batcher = batcherOf(model, { ...limits, deadlineMs: 20 });
    for (const text of 'abcdefghij') expect(await ask(batcher, text).reply).to.equal(text);
  });
});

describe('the batcher: rows that poison their batch', () => {
  const clock = withClock();

  const poisonous = (rows: RowSource): Replies => {
    if (payloadsOf(rows).some((row) => String(row) === 'x')) throw new Error('poison');
    return echoed(rows);
  };

  it('fail alone: the others are run again row by row, once', async () => {
    const seen: FinishedBatch[] = [];
    const model = new Recorded(poisonous);
    const batcher = batcherOf(model, { ...limits, retryRows: true }, (f) => void seen.push(f));
    expect(await askAll(batcher, 'axb')).to.deep.equal(['a', 'failed: poison', 'b']);
    expect(model.calls).to.deep.equal(['axb', 'a', 'x', 'b']);
    expect(seen.map(({ retriedRows }) => retriedRows)).to.deep.equal([3]);
  });

  it('fail their batch when the setting is off, or when they are all of it', async () => {
    const model = new Recorded(poisonous);
    expect(await askAll(batcherOf(model, limits), 'ax')).to.deep.equal(['failed: poison', 'failed: poison']);
    expect(await askAll(batcherOf(model, { ...limits, retryRows: true }), 'x')).to.deep.equal(['failed: poison']);
    expect(model.calls).to.deep.equal(['ax', 'x']);
  });

  it('are run again with those alone that shared a run with them, when a batch has several', async () => {
    const isBad = (row: Buffer): boolean => String(row) === 'x';
    /** Capitals share a run, and so do the others. */
    const model = new Recorded((batch) => {
      const rows = payloadsOf(batch);
      const share = (row: Buffer) => rows.filter((other) => /[A-Z]/.test(`${row}`) === /[A-Z]/.test(`${other}`));
      const answers = rows.map((row) => {
        if (!share(row).some(isBad)) return row;
        return rows.length === 1 ? new Error('poison') : new SharedRunError(new Error('poison'));
      });
      return Promise.resolve({ kind: 'rows', rows: answers });
    });
    const seen: FinishedBatch[] = [];
    const batcher = batcherOf(model, { ...limits, retryRows: true }, (f) => void seen.push(f));
    expect(await askAll(batcher, 'AxBa')).to.deep.equal(['A', 'failed: poison', 'B', 'a']);
    expect(model.calls).to.deep.equal(['AxBa', 'x', 'a']);
    expect(seen.map(({ retriedRows }) => retriedRows)).to.deep.equal([2]);
    const off = batcherOf(model, limits);
    expect(await askAll(off, 'Axa')).to.deep.equal(['A', 'failed: poison', 'failed: poison']);
  });

  it('take nothing from what the model tells of the replies to the others', async () => {
    const model = new Recorded(async (batch) => {
      const rows = payloadsOf(batch);
      if (rows.length === 1 && String(rows[0]) === 'x') throw new Error('poison');
      const [first] = rows as [Buffer];
      if (rows.length === 1)
        return { kind: 'uniform', bytes: first, rowBytes: 1, stride: 1, dims: [[1, 100 + Number(first)]] };
      return {
        kind: 'rows',
        rows: rows.map((row) => (String(row) === '1' ? row : new SharedRunError(new Error('poison')))),
        dims: rows.map((row) => (String(row) === '1' ? [[1]] : null)),
      };
    });
    const seen: FinishedBatch[] = [];
    const batcher = batcherOf(model, { ...limits, retryRows: true }, (f) => void seen.push(f));
    expect(await askAll(batcher, '1x2')).to.deep.equal(['1', 'failed: poison', '2']);
    expect(seen[0]?.outcome).to.deep.include({ kind: 'rows', dims: [[[1]], null, [[1, 102]]] });
    expect(
      await askAll(
        batcherOf(new Recorded(poisonous), { ...limits, retryRows: true }, (f) => void seen.push(f)),
        'ax',
      ),
    ).to.deep.equal(['a', 'failed: poison']);
    expect(seen[1]?.outcome).to.not.have.property('dims');
  });

  it('do not hold up others for longer than the deadline', async () => {
    const model = new Recorded(async () => {
      clock().tick(30);
      throw new Error('slow poison');
    });
    const batcher = batcherOf(model, { ...limits, retryRows: true, deadlineMs: 50 });
    expect(await askAll(batcher, 'abcd')).to.deep.equal(Array(4).fill('failed: slow poison'));
    expect(model.calls).to.deep.equal(['abcd', 'a']);
  });

  it('are not run again when they crash a thread', async () => {
    const crash = (): never => {
      throw new ThreadCrashedError('segmentation fault');
    };
    const model = new Recorded(crash);
    const crashed = 'failed: the thread of the model crashed: segmentation fault';
    expect(await askAll(batcherOf(model, { ...limits, retryRows: true }), 'abc')).to.deep.equal(Array(3).fill(crashed));
    expect(model.calls).to.deep.equal(['abc']);
    // A row that crashes the thread while the batch is run again ends that run too.
    const later = new Recorded((_, call) => {
      if (call === 1) throw new Error('poison');
      return crash();
    });
    expect(await askAll(batcherOf(later, { ...limits, retryRows: true }), 'abc')).to.deep.equal(Array(3).fill(crashed));
    expect(later.calls).to.deep.equal(['abc', 'a']);
  });
});

describe('the batcher: payloads of a model', () => {
  it('are those of its one length, or those that it accepts itself', async () => {
    const bytes = Buffer.from('abcd');
    const admitted = (model: Partial<Model>): readonly boolean[] => {
      const batcher = batcherOf(Object.assign(new Recorded(), model), limits);
      return [0, 1, 2, 3, 4].map((end) => batcher.admits(bytes, 1, Math.max(1, end)));
    };
    expect(admitted({})).to.deep.equal([true, true, true, true, true]);
    expect(admitted({ inputBytes: 2, accepts: () => true })).to.deep.equal([false, false, false, true, false]);
    const isBc = (source: Buffer, start: number, end: number) => source.toString('utf8', start, end) === 'bc';
    expect(admitted({ accepts: isBc })).to.deep.equal([false, false, false, true, false]);
  });

  it('may have several rows each: these are counted', async () => {
    const seen: number[] = [];
    const model = Object.assign(new Recorded(), { rowsIn: (payload: Buffer) => Number(String(payload)) });
    const batcher = batcherOf(model, limits, ({ batch, modelRows }) => void seen.push(batch.rows, modelRows));
    await askAll(batcher, '315');
    expect(seen).to.deep.equal([3, 9]);
  });
});

describe('the batcher: one model after another', () => {
  it('runs what was queued for the old one on the old one, and tells when that is done', async () => {
    const old = Recorded.held();
    const young = new Recorded();
    const batcher = batcherOf(old, limits);
    const first = ask(batcher, 'a').reply;
    await turn();
    const second = ask(batcher, 'b').reply;
    let isFree = false;
    const swapped = batcher.swap(young, fixedBatchSize(4)).then(() => {
      isFree = true;
    });
    const third = ask(batcher, 'c').reply;
    await turn();
    await old.release(0);
    await first;
    await turn();
    expect(isFree).to.equal(false);
    await old.release(1);
    await Promise.all([second, third, swapped]);
    expect(old.calls).to.deep.equal(['a', 'b']);
    expect(young.calls).to.deep.equal(['c']);
  });

  it('runs all that was queued for the old one on the old one, when clients take turns', async () => {
    const old = Recorded.held();
    const young = Recorded.held();
    const batcher = batcherOf(old, limits);
    const first = ask(batcher, 'a').reply;
    await turn();
    const queued = askAll(batcher, 'bcdefg');
    const swapped = batcher.swap(young, fixedBatchSize(4));
    const gone = ask(batcher, 'x');
    const later = askAll(batcher, 'hi');
    batcher.cancel(gone.batch, gone);
    for (const run of [0, 1, 2]) await old.release(run);
    await Promise.all([first, queued, swapped]);
    await young.release(0);
    await later;
    expect(old.calls).to.deep.equal(['a', 'bcde', 'fg']);
    expect(young.calls).to.deep.equal(['hi']);
    expect(batcher.queuedRows).to.equal(0);
  });

  it('waits for nobody when the old one is idle', async () => {
    const batcher = batcherOf(Recorded.held(), limits);
    await batcher.swap(new Recorded(), fixedBatchSize(4));
    expect(await askAll(batcher, 'a')).to.deep.equal(['a']);
  });

  it('lets go of the old one when the last that waited for it has gone', async () => {
    const old = Recorded.held();
    const batcher = batcherOf(old, limits);
    const first = ask(batcher, 'a').reply;
    await turn();
    const gone = ask(batcher, 'b');
    batcher.cancel(gone.batch, gone);
    const swapped = batcher.swap(new Recorded(), fixedBatchSize(4));
    await old.release(0);
    await Promise.all([first, swapped]);
    expect(old.calls).to.deep.equal(['a']);
  });
});

describe('the batcher: the event loop', () => {
  it('is given to others between runs of a model that takes long', async () => {
    const busy = new Recorded((rows) => {
      const until = performance.now() + 3;
      while (performance.now() < until);
      return echoed(rows);
    });
    const batcher = batcherOf(busy, { ...limits, maxBatchSize: 1 });
    let turns = 0;
    const count = (): void => {
      turns++;
      if (batcher.queuedRows > 0) setImmediate(count);
    };
    setImmediate(count);
    await askAll(batcher, 'abcdefgh');
    expect(turns).to.be.at.least(4);
  });
});
