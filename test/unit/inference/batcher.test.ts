import { expect } from 'chai';
import type { Batch, BatchOutcome, Replies } from '#src/inference/batch.js';
import { Batcher } from '#src/inference/batcher.js';
import type { Model } from '#src/inference/model.js';

const limits = { maxBatchSize: 4, maxQueue: 10 };

interface Recorded {
  readonly model: Model;
  /** The payloads of each call. */
  readonly calls: string[][];
}

/** Echoes each payload; `answer` may do something else with the batch. */
function echo(answer?: (batch: Batch) => Replies | Promise<Replies>): Recorded {
  const calls: string[][] = [];
  const run = (batch: Batch): Replies | Promise<Replies> => {
    const payloads = Array.from({ length: batch.rows }, (_, i) => batch.payload(i));
    calls.push(payloads.map(String));
    return answer?.(batch) ?? { kind: 'rows', rows: payloads };
  };
  return { calls, model: { inputBytes: null, description: 'echo', run, close: async () => {} } };
}

/** Adds a row and resolves with its batch's outcome. */
function ask(batcher: Batcher, text: string): Promise<BatchOutcome> | null {
  const batch = batcher.openBatch();
  if (batch === null) return null;
  batch.add(Buffer.from(text), 0, text.length);
  return new Promise((resolve) => batch.waiters.push({ batchSettled: () => resolve(batch.outcome as BatchOutcome) }));
}

describe('the batcher', () => {
  it('makes one call of all rows that came in one turn', async () => {
    const { model, calls } = echo();
    const batcher = new Batcher(model, limits);
    await Promise.all(['a', 'b', 'c'].map((text) => ask(batcher, text)));
    expect(calls).to.deep.equal([['a', 'b', 'c']]);
    await ask(batcher, 'd');
    expect(calls).to.deep.equal([['a', 'b', 'c'], ['d']]);
  });

  it('cuts a batch when it is full', async () => {
    const { model, calls } = echo();
    const batcher = new Batcher(model, limits);
    await Promise.all([...'abcdefghi'].map((text) => ask(batcher, text)));
    expect(calls.map((call) => call.join(''))).to.deep.equal(['abcd', 'efgh', 'i']);
  });

  it('collects the next batch while one runs, and never runs two at once', async () => {
    let release = (): void => {};
    let running = 0;
    const { model, calls } = echo(async (batch) => {
      expect(++running).to.equal(1);
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      running--;
      return { kind: 'rows', rows: Array.from({ length: batch.rows }, () => Buffer.alloc(0)) };
    });
    const batcher = new Batcher(model, limits);
    const first = ask(batcher, 'a');
    await new Promise((resolve) => setImmediate(resolve));
    const rest = [ask(batcher, 'b'), ask(batcher, 'c')];
    expect(batcher.queuedRows).to.equal(2);
    release();
    await first;
    await new Promise((resolve) => setImmediate(resolve));
    release();
    await Promise.all(rest);
    expect(calls).to.deep.equal([['a'], ['b', 'c']]);
  });

  it('refuses a row when the queue is full, and takes rows again afterwards', async () => {
    const { model } = echo();
    const batcher = new Batcher(model, limits);
    const asked = Array.from({ length: 11 }, (_, i) => ask(batcher, String(i)));
    expect(asked.filter((answer) => answer === null)).to.have.lengthOf(1);
    expect(asked.at(-1)).to.equal(null);
    await Promise.all(asked);
    expect(ask(batcher, 'x')).not.to.equal(null);
  });

  it('fails a batch whose model throws or rejects, and goes on', async () => {
    for (const fail of [
      () => {
        throw new Error('no luck');
      },
      async () => {
        throw new Error('no luck');
      },
    ]) {
      let isFirst = true;
      const { model } = echo((batch) => {
        if (!isFirst) return { kind: 'rows', rows: [batch.payload(0)] };
        isFirst = false;
        return fail();
      });
      const batcher = new Batcher(model, limits);
      const failed = await ask(batcher, 'a');
      expect(failed).to.have.property('kind', 'failed');
      expect(failed).to.have.nested.property('error.message', 'no luck');
      expect(await ask(batcher, 'b')).to.have.property('kind', 'rows');
    }
  });

  it('fails a batch whose model returns the wrong number of replies', async () => {
    for (const replies of [
      { kind: 'rows', rows: [Buffer.alloc(1)] },
      { kind: 'rows', rows: undefined as never },
      { kind: 'uniform', bytes: Buffer.alloc(7), rowBytes: 4, stride: 4 },
    ] satisfies Replies[]) {
      const batcher = new Batcher(echo(() => replies).model, limits);
      const [outcome] = await Promise.all([ask(batcher, 'a'), ask(batcher, 'b')]);
      expect(outcome).to.have.property('kind', 'failed');
      expect(outcome)
        .to.have.nested.property('error.message')
        .that.matches(/2 (replies|payloads)/);
    }
  });

  it('tells the observer of every batch', async () => {
    const seen: number[] = [];
    const batcher = new Batcher(echo().model, limits, (batch, outcome, runMs) => {
      expect(outcome.kind).to.equal('rows');
      expect(runMs).to.be.at.least(0);
      seen.push(batch.rows);
    });
    await Promise.all([...'abcde'].map((text) => ask(batcher, text)));
    expect(seen).to.deep.equal([4, 1]);
  });
});
