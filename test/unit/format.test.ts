import { expect } from 'chai';
import fc from 'fast-check';
import { durationTick, ticks } from '#src/format.js';

/** The value that a label stands for, in the unit of the axis. */
function told(label: string): number {
  const [, number = '', unit = ''] = /^(-?[\d.]+)(\w?)$/.exec(label) ?? [];
  return Number(number) * { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[unit as 'k'];
}

const stepped = (step: number, count: number): readonly number[] => Array.from({ length: count }, (_, i) => i * step);

describe('the labels of an axis', () => {
  for (const [step, count, expected] of [
    [0.25, 5, ['0', '0.25', '0.50', '0.75', '1.00']],
    [0.5, 3, ['0', '0.5', '1.0']],
    [2.5, 4, ['0', '2.5', '5.0', '7.5']],
    [2500, 5, ['0', '2.5k', '5.0k', '7.5k', '10.0k']],
    [2000, 3, ['0', '2000', '4000']],
    [250_000, 5, ['0', '0.25M', '0.50M', '0.75M', '1.00M']],
    [0.05, 2, ['0', '0.05']],
  ] as const) {
    it(`are ${expected.join(', ')} for steps of ${step}`, () =>
      expect(ticks(stepped(step, count), step)).to.deep.equal(expected));
  }

  it('are true: each says its tick, and no two are the same', () => {
    const step = fc
      .tuple(fc.constantFrom(1, 2, 2.5, 5), fc.integer({ min: -4, max: 11 }))
      .map(([digit, power]) => Number(`${digit}e${power}`));
    fc.assert(
      fc.property(step, fc.integer({ min: 2, max: 9 }), (size, count) => {
        const values = stepped(size, count);
        const labels = ticks(values, size);
        for (const [i, label] of labels.entries())
          expect(told(label)).to.be.closeTo(values[i] as number, 1e-9 * (values.at(-1) as number));
        expect(new Set(labels).size).to.equal(count);
      }),
    );
  });

  it('of durations have the unit that reads best', () => {
    expect([0.001, 0.01, 0.25, 1, 50, 1000, 20_000].map(durationTick)).to.deep.equal([
      '1 µs',
      '10 µs',
      '250 µs',
      '1 ms',
      '50 ms',
      '1 s',
      '20 s',
    ]);
  });
});
