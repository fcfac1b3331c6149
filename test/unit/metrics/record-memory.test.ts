import { expect } from 'chai';
import { RecordMemory } from '#src/metrics/transport/record-memory.js';
import type { AgedRecord } from '#src/metrics/transport/transport.js';
import { nodeRecord, workerRecord } from '../../support/records.js';

const aged = (sequence: number, ageMs: number): AgedRecord => ({ record: nodeRecord({ sequence }), ageMs });
const ages = (memory: RecordMemory, stored: readonly AgedRecord[], now: number): readonly number[] =>
  memory.update(stored, now).records.map(({ ageMs }) => ageMs);

describe('the memory of a reader', () => {
  it('believes the clock of the store where it knows nothing itself', () => {
    expect(ages(new RecordMemory(), [aged(1, 700)], 0)).to.deep.equal([700]);
    expect(ages(new RecordMemory(), [aged(1, -700)], 0)).to.deep.equal([0]);
  });

  it('tells ages by its own clock, however the clock of the store is set', () => {
    const hour = 3_600_000;
    for (const step of [hour, -hour]) {
      const memory = new RecordMemory();
      ages(memory, [aged(1, 0)], 0);
      // Not renewed: it ages by our clock, not by the step.
      expect(ages(memory, [aged(1, 200 + step)], 200)).to.deep.equal([200]);
      // Renewed before the clock was set: no older than our last look.
      expect(ages(memory, [aged(2, 100 + step)], 400)[0]).to.be.within(0, 200);
      expect(ages(memory, [aged(2, step)], 10_400)[0]).to.be.within(10_000, 10_200);
    }
  });

  it('gives back what is missing, and what has gone back to an older version, as old as it is', () => {
    const memory = new RecordMemory();
    memory.update([aged(5, 0), { record: workerRecord({ sequence: 9 }), ageMs: 0 }], 0);
    const { records: all, forgotten } = memory.update([aged(3, 5000)], 1000);
    expect(all.map(({ record }) => record.sequence)).to.have.members([5, 9]);
    expect(forgotten.map(({ record, ageMs }) => [record.sequence, ageMs])).to.have.deep.members([
      [5, 1000],
      [9, 1000],
    ]);
    expect(
      memory.update([aged(5, 1000), { record: workerRecord({ sequence: 9 }), ageMs: 0 }], 2000).forgotten,
    ).to.deep.equal([]);
  });

  it('forgets what others contain, once the store has', () => {
    const memory = new RecordMemory();
    const worker = workerRecord({ incarnation: 1 });
    memory.update([aged(1, 0), { record: worker, ageMs: 0 }], 0);
    const node = { record: nodeRecord({ sequence: 2, folded: { upTo: 1, except: [] } }), ageMs: 0 };
    expect(memory.update([node], 100).forgotten).to.deep.equal([]);
    expect(memory.update([node], 200).records).to.have.lengthOf(1);
  });
});
