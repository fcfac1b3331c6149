// What the proof costs for a model whose run is slow, and that it finds there what it finds in a quick one.

import type { Clock } from '@sinonjs/fake-timers';
import { expect } from 'chai';
import { findPlan } from '#src/inference/backends/find-plan.js';
import type { OutputTensor } from '#src/inference/backends/proof.js';
import { noOverrides } from '#src/inference/overrides.js';
import type { NumericTensor, Tensor } from '#src/tensors/axis.js';
import { withClock } from '../../support/clock.js';

/** Rows of [width] numbers, one after another. */
type Rows = readonly Float32Array[];

const rowMs = 30;
const width = 4;

/** Proves a model of rows of 4 whose run takes 30 ms a row. */
async function proved(clock: Clock, answer: (rows: Rows) => Rows, dim: number | 'seq' = width) {
  const runs: number[] = [];
  const run = async ({ x }: Readonly<Record<string, Tensor>>): Promise<readonly OutputTensor[]> => {
    const { dims, data } = x as NumericTensor;
    const [rows = 0, length = 0] = dims;
    runs.push(rows);
    clock.tick(rowMs * rows);
    const values = new Float32Array(data.slice().buffer);
    const answers = answer(Array.from({ length: rows }, (_, i) => values.subarray(i * length, (i + 1) * length)));
    const whole = Float32Array.from(answers.flatMap((row) => [...row]));
    return [{ name: 'y', dtype: 'float32', dims: [rows, length], data: new Uint8Array(whole.buffer) }];
  };
  const input = { name: 'x', dtype: 'float32' as const, dims: ['batch', dim], constant: null, isFilled: false };
  const output = { name: 'y', dtype: 'float32' as const, dims: null, isReturned: true };
  const model = { inputs: [input], outputs: [output], run, hasBatchScale: () => false };
  const { plan } = await findPlan(model, noOverrides, { maxBatchSize: 256, tolerance: 1e-4 });
  return { because: plan.runsAloneBecause, rows: runs.reduce((sum, rows) => sum + rows, 0), runs };
}

const mapped = (rows: Rows, to: (value: number, k: number, row: number) => number): Rows =>
  rows.map((values, row) => values.map((value, k) => to(value, k, row)));
const most = (rows: Rows): number => Math.max(...rows.flatMap((row) => [...row].map(Math.abs)));

const isLarge = (row: Float32Array): boolean => most([row]) > 20;

describe('the proof of a slow model', () => {
  const clock = withClock();

  it('takes 12 rows of it, whatever maxBatchSize is', async () => {
    const { because, rows } = await proved(clock(), (all) => mapped(all, (value) => 2 * value));
    expect(because).to.equal(null);
    expect(rows).to.be.at.most(12);
  });

  it('takes 5 rows more at another size of a dynamic dimension', async () => {
    const { because, rows } = await proved(clock(), (all) => mapped(all, (value) => 2 * value), 'seq');
    expect(because).to.equal(null);
    expect(rows).to.be.at.most(12 + 5 + 2); // and 2 to see which sizes run, and whether outputs grow
  });

  const dependent: Record<string, (rows: Rows) => Rows> = {
    'a sum over the batch': (rows) =>
      mapped(rows, (value, k) => value + 0.001 * rows.reduce((sum, row) => sum + (row[k] as number), 0)),
    'a running sum over the batch': (rows) =>
      mapped(rows, (value, k, at) => value + rows.slice(0, at).reduce((sum, row) => sum + (row[k] as number), 0)),
    'a scale of the whole batch': (rows) => {
      const step = most(rows) / 127;
      return mapped(rows, (value) => Math.round(value / step) * step);
    },
    'a scale of the whole batch, beside an input that is as large as pixels': (rows) => {
      const step = Math.tanh(most(rows)) / 127;
      return mapped(rows, (value) => value + 0.02 * Math.round(Math.tanh(value) / step) * step);
    },
    'its place in the batch': (rows) => mapped(rows, (value, _, at) => value * (1 + 0.001 * at)),
    'the row behind it': (rows) => mapped(rows, (value, k, at) => value + 0.01 * (rows[at + 1]?.[k] ?? 0)),
    'the row in front of it': (rows) => mapped(rows, (value, k, at) => value + 0.01 * (rows[at - 1]?.[k] ?? 0)),
    'the number of rows': (rows) => mapped(rows, (value) => value * (1 + 0.001 * (rows.length - 1))),
    'there being more than two rows': (rows) => mapped(rows, (value) => (rows.length > 2 ? 1.001 : 1) * value),
    'the first row': (rows) => mapped(rows, (value, k) => value + 0.01 * (rows[0]?.[k] ?? 0)),
    'large neighbours': (rows) => mapped(rows, (value) => (most(rows) > 20 ? value : value + 1)),
  };
  for (const [where, step] of [
    ['in front of', -1],
    ['behind', 1],
  ] as const)
    dependent[`a small row ${where} a large one`] = (rows) =>
      rows.map((row, at) => {
        const other = rows[at + step];
        const isOther = other !== undefined && isLarge(row) && !isLarge(other);
        return row.map((value) => (isOther ? 1.01 * value : value));
      });
  for (const [what, answer] of Object.entries(dependent))
    it(`finds that answers depend on ${what}`, async () => {
      const { because } = await proved(clock(), answer);
      expect(because).to.match(/^the output y differs by .* in a batch of [23]$/);
    });

  it('finds what shows only at another size of a dynamic dimension', async () => {
    const { because } = await proved(
      clock(),
      (rows) => mapped(rows, (value) => ((rows[0]?.length ?? 0) > width ? value + 0.01 * most(rows) : value)),
      'seq',
    );
    expect(because).to.match(/differs by .* with seq \d+$/);
  });

  it('tells a model that answers at random from one whose rows depend on each other', async () => {
    let last = 0;
    const { because } = await proved(clock(), (rows) => mapped(rows, (value) => value + last++ * 0.1));
    expect(because).to.match(/when the same row is run alone again$/);
  });
});
