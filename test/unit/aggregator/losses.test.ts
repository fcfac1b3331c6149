import { expect } from 'chai';
import { Losses } from '#src/aggregator/losses.js';
import { liveRecordsOf, totalCounts } from '#src/metrics/merge.js';
import type { MetricsRecord, NodeRecord } from '#src/metrics/snapshot.js';
import { countsOf, nodeRecord, workerRecord } from '../../support/records.js';

const lost = (requests: number, connections = 0) => ({
  ...countsOf({ received: requests, lost: requests, abandoned: requests }),
  closedByDeath: connections,
});
const node = (name: string, requests: number, fields: Partial<NodeRecord> = {}): NodeRecord =>
  nodeRecord({ node: name, run: name, departed: lost(requests), ...fields });

/** The losses that are new at the last of these looks. */
function newsOf(...looks: readonly (readonly MetricsRecord[])[]): readonly string[] {
  const losses = new Losses();
  const told = looks.map((records, i) => {
    const seen = liveRecordsOf(records);
    return losses.note(seen, totalCounts(seen), 1000 * i);
  });
  return (told.at(-1) ?? []).map(({ node: name, requests, connections }) => `${name} ${requests} ${connections}`);
}

describe('losses', () => {
  it('are what grew since the last look, by node', () => {
    expect(newsOf([node('a', 5), node('b', 1)], [node('a', 9), node('b', 2)])).to.deep.equal(['a 4 0', 'b 1 0']);
    expect(newsOf([node('a', 0)], [node('a', 1, { departed: lost(1, 3) })])).to.deep.equal(['a 1 3']);
  });

  it('are no news when a node is seen for the first time, or again', () => {
    expect(newsOf([], [node('a', 160)])).to.deep.equal([]);
    expect(newsOf([node('a', 160)], [node('a', 160), node('b', 70)])).to.deep.equal([]);
    expect(newsOf([node('a', 160)], [], [node('a', 160)])).to.deep.equal([]);
  });

  it('are news of one node while another is seen for the first time, or again', () => {
    expect(newsOf([node('a', 1)], [node('a', 3), node('b', 70)])).to.deep.equal(['a 2 0']);
    expect(newsOf([node('a', 1), node('b', 70)], [node('a', 1)], [node('a', 3), node('b', 70)])).to.deep.equal([
      'a 2 0',
    ]);
  });

  it('are no news when another record takes over what was known, and news as far as it is more', () => {
    const contains = [{ run: 'first', upTo: 9, except: [] }];
    const first = nodeRecord({ run: 'first', departed: lost(160) });
    const next = (requests: number, of: typeof contains | readonly never[] = contains) =>
      nodeRecord({ run: 'second', departed: lost(requests), contains: of });
    expect(newsOf([first], [next(160)])).to.deep.equal([]);
    expect(newsOf([first], [next(167)])).to.deep.equal(['a 7 0']);
    expect(newsOf([first], [first, next(0, [])], [next(160)])).to.deep.equal([]);
    expect(newsOf([first], [first, next(0, [])], [next(167)])).to.deep.equal(['a 7 0']);
  });

  it('are news when a worker whose primary is gone too is found dead', () => {
    const alive = workerRecord({ node: 'a', run: 'a', incarnation: 1, counts: countsOf({ received: 8 }) });
    expect(newsOf([alive], [{ ...alive, counts: lost(8, 2) }])).to.deep.equal(['a 8 2']);
  });
});
