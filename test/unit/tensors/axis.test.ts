import { expect } from 'chai';
import fc from 'fast-check';
import { elementsIn, joined, split, type Tensor } from '#src/tensors/axis.js';
import { type Dtype, dtypes } from '#src/tensors/dtypes.js';

type AnyDtype = Dtype | 'string';

const dtype = fc.constantFrom<AnyDtype>(...(Object.keys(dtypes) as Dtype[]), 'string');

/** Every element is different, as far as its bytes allow it. */
function numbered(dtype: AnyDtype, dims: readonly number[], from: number): Tensor {
  const elements = elementsIn(dims);
  if (dtype === 'string') return { dtype, dims, data: Array.from({ length: elements }, (_, i) => `s${from + i}`) };
  const { bytes } = dtypes[dtype];
  return { dtype, dims, data: Uint8Array.from({ length: elements * bytes }, (_, i) => (from * bytes + i) % 251) };
}

/** The element at an index: its bytes, or the string. */
function elementAt(tensor: Tensor, index: readonly number[]): unknown {
  const at = index.reduce((sum, i, axis) => sum * (tensor.dims[axis] as number) + i, 0);
  if (tensor.dtype === 'string') return tensor.data[at];
  const { bytes } = dtypes[tensor.dtype];
  return Buffer.from(tensor.data.subarray(at * bytes, (at + 1) * bytes)).toString('hex');
}

function* indexesOf(dims: readonly number[]): Generator<readonly number[]> {
  const [first, ...rest] = dims;
  if (first === undefined) {
    yield [];
    return;
  }
  for (let i = 0; i < first; i++) for (const index of indexesOf(rest)) yield [i, ...index];
}

/** Tensors that differ in their size along one axis; sizes of 0 too. */
const parts = fc
  .record({
    dtype,
    dims: fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 4 }),
    sizes: fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 4 }),
  })
  .chain(({ dtype, dims, sizes }) =>
    fc.nat({ max: dims.length - 1 }).map((axis) => ({
      axis,
      sizes,
      tensors: sizes.map((size, k) =>
        numbered(
          dtype,
          dims.map((dim, i) => (i === axis ? size : dim)),
          k * 1000,
        ),
      ),
    })),
  );

describe('tensors along an axis', () => {
  it('are joined so that each element is where its index says', () => {
    fc.assert(
      fc.property(parts, ({ axis, tensors }) => {
        const whole = joined(tensors, axis);
        let offset = 0;
        for (const part of tensors) {
          for (const index of indexesOf(part.dims)) {
            const place = index.map((i, k) => (k === axis ? i + offset : i));
            expect(elementAt(whole, place)).to.equal(elementAt(part, index));
          }
          offset += part.dims[axis] as number;
        }
        expect(whole.dims[axis]).to.equal(offset);
        expect(whole.data.length).to.equal(tensors.reduce((sum, { data }) => sum + data.length, 0));
      }),
    );
  });

  it('are split into what they were joined of, with every bit', () => {
    fc.assert(
      fc.property(parts, ({ axis, sizes, tensors }) => {
        expect(split(joined(tensors, axis), axis, sizes)).to.deep.equal(tensors);
      }),
    );
  });

  it('are split without a copy along the first one', () => {
    const whole = numbered('float32', [4, 3], 0);
    const [, second] = split(whole, 0, [1, 3]) as [Tensor, Extract<Tensor, { dtype: Dtype }>];
    expect(second.data.buffer).to.equal((whole as Extract<Tensor, { dtype: Dtype }>).data.buffer);
    expect(second.data.byteOffset).to.equal(12);
  });

  it('are refused when they do not fit', () => {
    const refused = (run: () => unknown, message: string) => expect(run).to.throw(RangeError, message);
    const floats = numbered('float32', [2, 3], 0);
    refused(() => joined([], 0), 'no tensor to join');
    refused(() => joined([floats, numbered('int32', [2, 3], 0)], 0), 'int32[2,3] cannot be joined to float32[2,3]');
    refused(() => joined([floats, numbered('float32', [2, 4], 0)], 0), 'along axis 0');
    refused(() => joined([floats, numbered('float32', [2], 0)], 0), 'float32[2] cannot be joined');
    refused(() => joined([numbered('float32', [], 0)], 0), 'a tensor of shape [] has no axis 0');
    refused(() => joined([floats], 2), 'has no axis 2');
    refused(() => split(floats, 0, [1]), 'no parts of 1 along axis 0');
    refused(() => split(floats, 1, [-1, 4]), 'no parts of -1,4');
    refused(() => split(floats, 1, [1.5, 1.5]), 'no parts of');
  });
});
