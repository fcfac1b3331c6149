import { expect } from 'chai';
import { SilenceWatch } from '#src/aggregator/silence.js';
import { nodeRecord, workerRecord } from '../../support/records.js';

/** Looks once a second at a node whose sequence number `sequence` gives, and at a worker beside it. */
function watch(silence: SilenceWatch, seconds: number, from: number, sequence: (second: number) => number): void {
  for (let second = from; second < from + seconds; second++)
    silence.saw([nodeRecord({ sequence: sequence(second) }), workerRecord({ sequence: 7 })], second * 1000);
}

const silent = (silence: SilenceWatch, ms: number): readonly string[] => [...silence.silentFor(ms)];

describe('the silence of a run', () => {
  it('is the time in which none of its records was renewed', () => {
    const silence = new SilenceWatch(2000);
    watch(silence, 10, 0, () => 3);
    expect(silent(silence, 8999)).to.deep.equal(['run']);
    expect(silent(silence, 9000)).to.deep.equal([]);
  });

  it('is over with any newer record, and with a new one', () => {
    const silence = new SilenceWatch(2000);
    watch(silence, 10, 0, (second) => (second === 9 ? 4 : 3));
    expect(silent(silence, 0)).to.deep.equal([]);
    watch(silence, 5, 10, () => 4);
    silence.saw([nodeRecord({ sequence: 4 }), workerRecord({ incarnation: 2 })], 15_000);
    expect(silent(silence, 0)).to.deep.equal([]);
  });

  it('is not broken by older versions: a dump was restored', () => {
    const silence = new SilenceWatch(2000);
    watch(silence, 10, 0, (second) => (second > 5 ? 2 : 3));
    expect(silent(silence, 8000)).to.deep.equal(['run']);
  });

  it('begins anew when records could not be read: nobody could have published then', () => {
    const silence = new SilenceWatch(2000);
    for (let outage = 0; outage < 5; outage++) {
      watch(silence, 5, outage * 100, () => 3);
      silence.sawNothing();
      expect(silent(silence, 0)).to.deep.equal([]);
    }
    watch(silence, 5, 1000, () => 3);
    expect(silent(silence, 3999)).to.deep.equal(['run']);
    expect(silent(silence, 4000)).to.deep.equal([]);
  });

  it('does not grow while this process stands still, or the machine sleeps', () => {
    const silence = new SilenceWatch(2000);
    watch(silence, 2, 0, () => 3);
    watch(silence, 2, 86_400, () => 3);
    expect(silent(silence, 4000)).to.deep.equal([]);
    expect(silent(silence, 3999)).to.deep.equal(['run']);
  });

  it('of runs without records is forgotten', () => {
    const silence = new SilenceWatch(2000);
    watch(silence, 10, 0, () => 3);
    silence.saw([], 10_000);
    expect(silent(silence, 0)).to.deep.equal([]);
  });
});
