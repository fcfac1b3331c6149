import { expect } from 'chai';
import fc from 'fast-check';
import { type Dtype, typedView } from '#src/tensors/dtypes.js';
import { type Literal, nearestHalf, shapeOf, tensorOf } from '#src/tensors/literal.js';

/** The number that the bits of a finite IEEE 754 half stand for. */
function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const size = exponent === 0 ? (bits & 1023) / 2 ** 24 : (1 + (bits & 1023) / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

const values = (literal: Literal, dtype: Dtype, dims: readonly number[]): readonly (number | bigint)[] => {
  const { data } = tensorOf(literal, dtype, dims) as { data: Uint8Array<ArrayBuffer> };
  return [
    ...typedView(
      dtype,
      data.buffer,
      dims.reduce((a, b) => a * b, 1),
    ),
  ];
};

describe('a tensor in config', () => {
  it('is a value that fills it, or lists of its shape', () => {
    expect(values(16000, 'int64', [])).to.deep.equal([16000n]);
    expect(values(0.5, 'float32', [2, 3])).to.deep.equal(Array(6).fill(0.5));
    expect(
      values(
        [
          [1, 2],
          [3, 4],
        ],
        'int8',
        [2, 2],
      ),
    ).to.deep.equal([1, 2, 3, 4]);
    expect(values([true, false, 1], 'bool', [3])).to.deep.equal([1, 0, 1]);
    expect(values('9007199254740993', 'int64', [1])).to.deep.equal([9007199254740993n]);
    expect(values(['NaN', '-Infinity'], 'float64', [2])).to.deep.equal([Number.NaN, Number.NEGATIVE_INFINITY]);
    expect(values([1, -2.5], 'float16', [2])).to.deep.equal([0x3c00, 0xc100]);
    expect(values([], 'float32', [0])).to.deep.equal([]);
    expect(tensorOf('é', 'string', [2])).to.deep.equal({ dtype: 'string', dims: [2], data: ['é', 'é'] });
    expect(tensorOf([['a'], ['b']], 'string', [2, 1])).to.deep.include({ data: ['a', 'b'] });
    expect(shapeOf([[[1], [2]]])).to.deep.equal([1, 2, 1]);
  });

  it('is refused when a value does not fit its dtype, or the lists its shape', () => {
    const refused = (literal: Literal, dtype: Dtype | 'string', dims: readonly number[], message: string) =>
      expect(() => tensorOf(literal, dtype, dims), JSON.stringify(literal)).to.throw(Error, message);
    refused(128, 'int8', [], '128 is no int8');
    refused(-1, 'uint8', [], '-1 is no uint8');
    refused(1.5, 'int64', [], '1.5 is no int64');
    refused(2 ** 53, 'int64', [], 'is no int64');
    refused('18446744073709551616', 'uint64', [], 'is no uint64');
    refused('x', 'float32', [], '"x" is no float32');
    refused(true, 'float32', [], 'true is no float32');
    refused(2, 'bool', [], '2 is no bool');
    refused(1, 'string', [], '1 is no text');
    refused('a\0b', 'string', [], 'NUL');
    refused([1, 2], 'int8', [3], 'it has the shape [2], not [3]');
    refused([[1], [2, 3]], 'int8', [2, 1], 'its lists differ in length: [1] and [2]');
  });

  it('of float16 has the nearest half for each number', () => {
    const half = fc.integer({ min: 0, max: 0xffff }).filter((bits) => (bits & 0x7c00) !== 0x7c00);
    fc.assert(fc.property(half, (bits) => void expect(nearestHalf(fromHalf(bits))).to.equal(bits)));
    fc.assert(
      fc.property(fc.double({ min: -65519, max: 65519, noNaN: true }), (value) => {
        const distance = (bits: number): number => Math.abs(fromHalf(bits) - value);
        const bits = nearestHalf(value);
        for (const other of [bits - 1, bits + 1])
          if ((other & 0x7c00) !== 0x7c00 && other >= 0) expect(distance(bits)).to.be.at.most(distance(other));
      }),
    );
    expect(nearestHalf(65520)).to.equal(0x7c00);
    expect(nearestHalf(-1e9)).to.equal(0xfc00);
    expect(nearestHalf(2 ** -25)).to.equal(0); // half of the least: rounded to even
    expect(nearestHalf(2 ** -25 * 1.5)).to.equal(1);
  });
});
