// Requests of inference at random, and what a reader of any form of them must find.

import fc from 'fast-check';
import { type DatatypeName, datatypes } from '#src/protocol/oip/datatypes.js';
import type { InferAnswer, InferCall, InferTensor } from '#src/protocol/oip/infer.js';
import { type Dtype, typedView } from '#src/tensors/dtypes.js';
import { encodeStrings } from '#src/tensors/strings.js';

/** A tensor by its values: numbers of 64 bits as bigints, halves as their bits. */
export interface TensorCase {
  readonly name: string;
  readonly datatype: DatatypeName;
  readonly shape: readonly number[];
  readonly values: readonly (number | bigint | boolean | string)[];
}

const signed = (bits: number): fc.Arbitrary<number> =>
  fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 });
const unsigned = (bits: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** bits - 1 });

const values: Readonly<Record<DatatypeName, fc.Arbitrary<number | bigint | boolean | string>>> = {
  BOOL: fc.boolean(),
  UINT8: unsigned(8),
  UINT16: unsigned(16),
  UINT32: unsigned(32),
  UINT64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  INT8: signed(8),
  INT16: signed(16),
  INT32: signed(32),
  INT64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  FP16: unsigned(16),
  FP32: fc.float({ noNaN: true, noDefaultInfinity: true }),
  FP64: fc.double({ noNaN: true, noDefaultInfinity: true }),
  BYTES: fc.string({ unit: 'grapheme', maxLength: 8 }),
  BF16: unsigned(16),
};

export const names: fc.Arbitrary<string> = fc.string({ unit: 'grapheme', maxLength: 20 });
const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });

/** @param of the datatypes to choose from */
export const tensorCases = (
  of: readonly DatatypeName[] = Object.keys(datatypes) as DatatypeName[],
): fc.Arbitrary<readonly TensorCase[]> =>
  fc.uniqueArray(
    fc.record({ name: names, datatype: fc.constantFrom(...of), shape: shapes }).chain(({ name, datatype, shape }) => {
      const count = shape.reduce((product, size) => product * size, 1);
      return fc
        .array(values[datatype], { minLength: count, maxLength: count })
        .map((list) => ({ name, datatype, shape, values: list }));
    }),
    { selector: ({ name }) => name, maxLength: 4 },
  );

/** As it travels in raw form. */
export function bytesOf({ datatype, values: list }: TensorCase): Buffer {
  if (datatype === 'BYTES') return encodeStrings(list as readonly string[]);
  const dtype: Dtype = (datatypes[datatype].dtype as Dtype | null) ?? 'uint16';
  const bytes = new ArrayBuffer(list.length * datatypes[datatype].bytes);
  const view = typedView(dtype, bytes, list.length);
  for (const [i, value] of list.entries()) view[i] = (typeof value === 'boolean' ? Number(value) : value) as never;
  return Buffer.from(bytes);
}

/** What a decoder found, or a reader must find: plain data without views. */
export function plainTensor({ spec: { name, datatype, shape }, source, start, end }: InferTensor): object {
  return { name, datatype, shape: [...shape], data: Buffer.from(source.subarray(start, end)) };
}

export const plainCase = (tensor: TensorCase): object => ({
  name: tensor.name,
  datatype: tensor.datatype,
  shape: [...tensor.shape],
  data: bytesOf(tensor),
});

export function plainCall(call: InferCall): object {
  const { inputs, outputs, ...rest } = call;
  return { ...rest, inputs: inputs.map(plainTensor), outputs: [...outputs] };
}

/** An answer whose outputs lie somewhere in larger memory. */
export function answerOf(
  { model, version, id }: Pick<InferAnswer, 'model' | 'version' | 'id'>,
  outputs: readonly TensorCase[],
): InferAnswer {
  return {
    model,
    version,
    id,
    outputs: outputs.map((output) => {
      const data = bytesOf(output);
      const source = Buffer.concat([Buffer.alloc(3, 0xee), data, Buffer.alloc(2, 0xee)]);
      const { name, datatype, shape } = output;
      const elements = output.values.length;
      return { spec: { name, datatype, shape, elements }, source, start: 3, end: 3 + data.length };
    }),
  };
}
