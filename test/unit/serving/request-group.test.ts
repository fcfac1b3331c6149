import { expect } from 'chai';
import { Batch, type BatchOutcome, type ReplyDims } from '#src/inference/batch.js';
import { RequestGroup } from '#src/serving/request-group.js';
import { viewOf } from '../../support/reply-spans.js';

/** A group of two rows behind one of others, in a batch with this outcome. */
function settled(outcome: BatchOutcome): RequestGroup {
  const batch = new Batch(null);
  const owner = { groupSettled: () => {}, groupSplit: () => {} };
  const enter = (rows: number): RequestGroup => {
    const group = new RequestGroup(batch, 0, owner);
    batch.enter(group);
    for (let i = 0; i < rows; i++) batch.add(Buffer.from('x'), 0, 1);
    group.rows = group.requests = rows;
    group.retain();
    return group;
  };
  enter(1);
  const group = enter(2);
  batch.settle(outcome);
  return group;
}

const dimsOf = (outcome: BatchOutcome): readonly (ReplyDims | null)[] => {
  const group = settled(outcome);
  expect(group.hasReplyDims).to.equal('dims' in outcome);
  return [group.replyDims(0), group.replyDims(1)];
};

describe('the replies to a group of requests', () => {
  const rows = ['a', 'b', 'c'].map((text) => Buffer.from(text));
  const uniform = { kind: 'uniform', bytes: Buffer.from('abc'), rowBytes: 1, stride: 1 } as const;

  it('are those to its own rows', () => {
    for (const outcome of [uniform, { kind: 'rows', rows } as const]) {
      const group = settled(outcome);
      expect(
        [group.reply(0), group.reply(1)].map((reply) => (reply === null ? '' : Buffer.from(viewOf(reply)).toString())),
      ).to.deep.equal(['b', 'c']);
    }
  });

  it('have the dimensions that the model tells of them, or none', () => {
    const own: readonly ReplyDims[] = [[[1]], [[2, 2]]];
    expect(dimsOf({ kind: 'rows', rows, dims: [null, ...own] })).to.deep.equal(own);
    expect(dimsOf({ kind: 'rows', rows, dims: [[[7]], null, [[2]]] })).to.deep.equal([null, [[2]]]);
    expect(dimsOf({ ...uniform, dims: [[3]] })).to.deep.equal([[[3]], [[3]]]);
    expect(dimsOf(uniform)).to.deep.equal([null, null]);
    expect(dimsOf({ kind: 'rows', rows })).to.deep.equal([null, null]);
    expect(dimsOf({ kind: 'failed', error: new Error('bad') })).to.deep.equal([null, null]);
    const owner = { groupSettled: () => {}, groupSplit: () => {} };
    expect(new RequestGroup('refusedQueueFull', 0, owner).replyDims(0)).to.equal(null);
  });
});
