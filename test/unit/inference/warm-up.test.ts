import { expect } from 'chai';
import type { Model } from '#src/inference/model.js';
import { longestCallMs, warmUp } from '#src/inference/warm-up.js';

/** Takes `callMs` for a call and `rowMs` for each row; `calls` lists the rows of every call. */
function timed(callMs: number, rowMs: number): { readonly model: Model; readonly calls: number[] } {
  const calls: number[] = [];
  const model: Model = {
    inputBytes: 1,
    outputBytes: 1,
    fixedRows: null,
    runsAloneBecause: null,
    plan: null,
    concurrency: 1,
    mayReplyWithInput: false,
    description: '',
    sample: null,
    run: ({ rows }) => {
      calls.push(rows);
      const endsAt = performance.now() + callMs + rowMs * rows;
      while (performance.now() < endsAt);
      return { kind: 'uniform', bytes: Buffer.alloc(rows), rowBytes: 1, stride: 1 };
    },
    close: async () => {},
  };
  return { model, calls };
}

describe('the largest batch of a model', () => {
  it('is as large as a call of it may take, and no larger one is tried', async () => {
    const { model, calls } = timed(0, 10);
    const measured = await warmUp(model, 256, 200);
    expect(measured?.maxRows).to.be.within(8, 20);
    expect(measured?.fullMs).to.be.at.most(200);
    expect(Math.max(...calls)).to.be.at.most(20);
  });

  it('is one row where one takes longer than a call may', async () => {
    const { model, calls } = timed(0, 60);
    expect(await warmUp(model, 256, 50)).to.include({ maxRows: 1 });
    expect(calls).to.deep.equal([1]);
  });

  it('is the largest of all for a quick model, and for one whose calls take long, not its rows', async () => {
    expect(await warmUp(timed(0, 0.001).model, 256, 1000)).to.include({ maxRows: 256 });
    expect(await warmUp(timed(60, 0.001).model, 256, 500)).to.include({ maxRows: 256 });
  });

  it('leaves room to the time that a run hangs after, and to the deadline', () => {
    expect(longestCallMs(30_000, 5000)).to.equal(2500);
    expect(longestCallMs(30_000, 0)).to.equal(7500);
    expect(longestCallMs(4000, 5000)).to.equal(1000);
  });
});
