import { expect } from 'chai';
import fc from 'fast-check';
import type { Replies, RowSource } from '#src/inference/batch.js';
import type { Model } from '#src/inference/model.js';
import { Recorder } from '#src/metrics/recorder.js';
import { CallAccounting } from '#src/serving/call-accounting.js';
import { Deadlines } from '#src/serving/deadlines.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import type { CallOwner, ServedCall } from '#src/serving/served-call.js';
import { batcherOf } from '../../support/batchers.js';
import { withClock } from '../../support/clock.js';
import { viewOf } from '../../support/reply-spans.js';

/** Answers each payload in capitals, `!` not at all, when the test lets it. */
class HeldModel implements Model {
  readonly inputBytes = null;
  readonly outputBytes = null;
  readonly fixedRows = null;
  readonly runsAloneBecause = null;
  readonly plan = null;
  readonly mayReplyWithInput = false;
  readonly concurrency = 2;
  readonly sample = null;
  readonly description = 'held';
  readonly #runs: (() => void)[] = [];

  accepts(source: Buffer, start: number, end: number): boolean {
    return source.toString('latin1', start, end) !== '?';
  }

  run(batch: RowSource): Promise<Replies> {
    const texts = Array.from({ length: batch.rows }, (_, i) => batch.payload(i).toString('latin1'));
    const rows = texts.map((text) => (text === '!' ? new Error('no') : Buffer.from(text.toUpperCase(), 'latin1')));
    return new Promise((resolve) => this.#runs.push(() => resolve({ kind: 'rows', rows })));
  }

  get runs(): number {
    return this.#runs.length;
  }

  finish(which = 0): void {
    this.#runs.splice(which, 1)[0]?.();
  }

  async close(): Promise<void> {}
}

class Outcome implements CallOwner {
  readonly told: string[] = [];
  readonly canSay: boolean;

  constructor(canSay = true) {
    this.canSay = canSay;
  }

  answered(call: ServedCall): boolean {
    this.told.push(Buffer.concat(call.replies().map(viewOf)).toString('latin1'));
    return this.canSay;
  }

  failed(end: string, detail: string): void {
    this.told.push(detail === '' ? end : `${end} ${detail}`);
  }
}

/** Each row is the payload of so many letters. */
function payloads(...rows: readonly string[]) {
  const bounds = [0];
  for (const row of rows) bounds.push((bounds.at(-1) as number) + row.length);
  return { source: Buffer.from(rows.join(''), 'latin1'), bounds };
}

describe('the requests of a client that are answered in any order', () => {
  const clock = withClock();
  let sends = 0;
  let lastSafe = 0;
  const rig = ({ maxQueue = 100, maxBatchSize = 4 } = {}) => {
    const model = new HeldModel();
    const recorder = new Recorder(['m']);
    const budget = new MemoryBudget(1 << 20);
    sends = 0;
    const answeredNow = () => recorder.snapshot().models.m?.answered ?? 0;
    const flush = new ReplyFlush(() => {
      lastSafe = answeredNow();
    });
    const endpoint = new ModelEndpoint({
      batcher: batcherOf(model, { maxBatchSize, maxQueue, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: false }),
      recorder: recorder.model('m'),
      limits: { maxPayloadBytes: 1000, maxInFlight: 64 },
      budget,
      flush,
    });
    const client = {
      sendReplies: () => {
        sends++;
        expect(lastSafe, 'counts are safe').to.equal(answeredNow());
      },
      resumeReading: () => {},
      endTurn: () => {},
    };
    const accounting = new CallAccounting({ budget, flush, deadlines: new Deadlines(), maxInFlight: 64 }, client);
    const submit = (rows: readonly string[], owner: CallOwner, timeoutMs = 0) =>
      accounting.submit(endpoint, payloads(...rows), performance.now(), timeoutMs, owner);
    const counts = () => {
      const { m } = recorder.snapshot().models;
      if (m === undefined) throw new Error('the model has no counts');
      return m;
    };
    const imbalance = () => {
      const { received, answered, failed, refusedBadInput, refusedQueueFull, refusedOverloaded, expired, abandoned } =
        counts();
      const over = answered + failed + refusedBadInput + refusedQueueFull + refusedOverloaded + expired + abandoned;
      return received - over - accounting.inFlight;
    };
    return { model, accounting, budget, submit, counts, imbalance };
  };
  const turn = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
  };

  it('are answered when all of their rows are, however many runs those take', async () => {
    const { model, submit, counts, imbalance } = rig();
    const owner = new Outcome();
    submit(['a', 'bc', 'd', 'e', 'f', 'g'], owner);
    await turn();
    expect(model.runs).to.equal(2);
    model.finish(1);
    await turn();
    expect(owner.told).to.deep.equal([]);
    model.finish();
    await turn();
    expect(owner.told).to.deep.equal(['ABCDEFG']);
    expect(sends).to.equal(1);
    expect(counts()).to.include({ received: 1, answered: 1, batchedRows: 0 });
    expect(imbalance()).to.equal(0);
  });

  it('fail as a whole when a row fails, and with what the model said', async () => {
    const { model, submit, counts } = rig();
    const owner = new Outcome();
    submit(['a', '!', 'b'], owner);
    await turn();
    model.finish();
    await turn();
    expect(owner.told).to.deep.equal(['failed no']);
    expect(counts()).to.include({ received: 1, failed: 1, answered: 0 });
  });

  it('count as failed when the protocol cannot say the answer', async () => {
    const { model, submit, counts } = rig();
    submit(['a'], new Outcome(false));
    await turn();
    model.finish();
    await turn();
    expect(counts()).to.include({ received: 1, failed: 1, answered: 0 });
  });

  it('are refused as a whole when a row is none, or finds no room; the rows before it free theirs', async () => {
    const { model, submit, counts } = rig({ maxQueue: 8 });
    for (let i = 0; i < 2; i++) submit(['a', 'b', 'c', 'd'], new Outcome());
    await turn();
    const [wrong, tooMany, fits] = [new Outcome(), new Outcome(), new Outcome()];
    submit(['a', 'b', '?'], wrong);
    submit([...'abcdefghi'], tooMany);
    submit([...'abcdefgh'], fits);
    expect(wrong.told).to.deep.equal(['refusedBadInput']);
    expect(tooMany.told).to.deep.equal(['refusedQueueFull']);
    expect(fits.told).to.deep.equal([]);
    expect(counts()).to.include({ received: 5, refusedBadInput: 1, refusedQueueFull: 1 });
    for (let i = 0; i < 4; i++) {
      model.finish();
      await turn();
    }
    expect(fits.told).to.deep.equal(['ABCDEFGH']);
  });

  it('expire at their own time, queued or in a run, and only then', async () => {
    const { model, submit, counts, imbalance } = rig({ maxBatchSize: 1 });
    const owners = Array.from({ length: 4 }, () => new Outcome());
    for (const [i, owner] of owners.entries()) submit(['a'], owner, 100 + 100 * i);
    await turn();
    clock().tick(150);
    expect(owners.map(({ told }) => told)).to.deep.equal([['expired'], [], [], []]);
    clock().tick(170);
    expect(owners.map(({ told }) => told)).to.deep.equal([['expired'], ['expired'], ['expired'], []]);
    model.finish();
    model.finish();
    await turn();
    // The third waited for its run, and never gets one.
    model.finish();
    await turn();
    expect(model.runs).to.equal(0);
    expect(owners[3]?.told).to.deep.equal(['A']);
    clock().tick(1000);
    expect(counts()).to.include({ received: 4, expired: 3, answered: 1 });
    expect(imbalance()).to.equal(0);
  });

  it('are counted once, and told of once, whatever comes between', async () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('ask' as const),
        rows: fc.array(fc.constantFrom('a', 'b', '!', '?'), { minLength: 1, maxLength: 6 }),
        timeoutMs: fc.constantFrom(0, 5, 50),
      }),
      fc.record({ kind: fc.constant('cancel' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('finish' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 30 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (all, isClosed) => {
        const { model, accounting, budget, submit, counts, imbalance } = rig({ maxQueue: 12 });
        const asked: { readonly call: ServedCall; readonly owner: Outcome; isCancelled: boolean }[] = [];
        for (const one of all) {
          if (one.kind === 'ask') {
            const owner = new Outcome();
            asked.push({ call: submit(one.rows, owner, one.timeoutMs), owner, isCancelled: false });
          } else if (one.kind === 'pass') clock().tick(one.ms);
          else if (one.kind === 'finish') {
            if (model.runs > 0) model.finish(one.which % model.runs);
            await turn();
          } else if (asked.length > 0) {
            const it = asked[one.which % asked.length] as (typeof asked)[0];
            if (it.owner.told.length === 0) it.isCancelled = true;
            it.call.cancel();
          }
          accounting.hold(0);
          expect(imbalance()).to.equal(0);
        }
        if (isClosed) accounting.close();
        await turn();
        while (model.runs > 0) {
          model.finish();
          await turn();
        }
        expect(imbalance()).to.equal(0);
        expect(accounting.inFlight).to.equal(0);
        for (const { owner, isCancelled } of asked)
          expect(owner.told.length).to.be.within(isCancelled || isClosed ? 0 : 1, isCancelled ? 0 : 1);
        expect(counts().received).to.equal(asked.length);
        accounting.hold(0);
        accounting.close();
        expect(budget.used).to.equal(0);
      }),
      { numRuns: 60 },
    );
  });
});
