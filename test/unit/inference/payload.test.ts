import { expect } from 'chai';
import fc from 'fast-check';
import { type ParsedPayload, PayloadLayout } from '#src/inference/payload.js';
import type { InputPlan } from '#src/inference/plan.js';
import { type Dtype, dtypes } from '#src/tensors/dtypes.js';
import { encodeStrings } from '#src/tensors/strings.js';
import { inputPlan, planOf } from '../../support/plans.js';

const layoutOf = (inputs: readonly InputPlan[], maxRows = 256): PayloadLayout =>
  new PayloadLayout(planOf(inputs), { maxRows });

/** The elements of each input of a request: bytes, or strings. */
type Elements = readonly (Buffer | readonly string[])[];
const encode = (elements: Elements): Buffer =>
  Buffer.concat(elements.map((one) => (Buffer.isBuffer(one) ? one : encodeStrings(one as readonly string[]))));

const count = (input: InputPlan, size: number): number =>
  input.requestDims.reduce<number>((product, dim) => product * (typeof dim === 'number' ? dim : size), 1);

const text = fc.string({ unit: 'binary', maxLength: 6 }).map((string) => string.replaceAll('\0', '0'));
const dim = fc.constantFrom<number | string>(0, 1, 2, 3, 'n');
const numeric = fc.constantFrom<Dtype>('uint8', 'float16', 'float32', 'int64');

const inputsOf = (dtype: fc.Arbitrary<Dtype | 'string'>) =>
  fc
    .array(fc.record({ dtype, dims: fc.array(dim, { maxLength: 3 }) }), { minLength: 1, maxLength: 4 })
    .map((inputs) => inputs.map(({ dtype, dims }, i) => inputPlan(`x${i}`, dtype, dims)));

function valid(inputs: readonly InputPlan[]): PayloadLayout | null {
  try {
    return layoutOf(inputs);
  } catch {
    return null;
  }
}

describe('a payload', () => {
  it('is taken apart into the tensors that it was made of, whatever their shapes', () => {
    const inputs = inputsOf(fc.oneof(numeric, fc.constant('string' as const)));
    const requests = inputs.chain((plans) =>
      fc.tuple(fc.constant(plans), fc.integer({ min: 1, max: 4 })).chain(([plans, size]) =>
        fc.tuple(
          fc.constant(plans),
          fc.constant(size),
          fc.tuple(
            ...plans.map((input) => {
              const length = count(input, size);
              if (input.dtype === 'string') return fc.array(text, { minLength: length, maxLength: length });
              const bytes = length * dtypes[input.dtype].bytes;
              return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((array) => Buffer.from(array));
            }),
          ),
        ),
      ),
    );
    let taken = 0;
    fc.assert(
      fc.property(requests, fc.nat({ max: 9 }), ([inputs, size, elements], before) => {
        const layout = valid(inputs);
        if (layout === null) return;
        taken++;
        const payload = encode(elements as Elements);
        const source = Buffer.concat([Buffer.alloc(before, 0xff), payload, Buffer.from([1])]);
        expect(layout.accepts(source, before, before + payload.length)).to.equal(true);
        const parsed = layout.parse(payload) as ParsedPayload;
        expect(parsed.size).to.equal(layout.open === null ? 0 : size);
        for (const [i, one] of (elements as Elements).entries()) {
          const at = parsed.offsets[i] as number;
          if (Buffer.isBuffer(one)) expect(payload.subarray(at, at + one.length)).to.deep.equal(one);
          else expect(parsed.strings[i]).to.deep.equal(one);
        }
        if (layout.bytes !== null) expect(layout.bytes).to.equal(payload.length);
      }),
      { numRuns: 500 },
    );
    expect(taken).to.be.greaterThan(200);
  });

  it('of numbers is accepted exactly when some size of the open dimension has its length', () => {
    fc.assert(
      fc.property(inputsOf(numeric), fc.nat({ max: 200 }), (inputs, length) => {
        const layout = valid(inputs);
        if (layout === null) return;
        const bytesFor = (size: number): number =>
          inputs.reduce((sum, input) => sum + count(input, size) * dtypes[input.dtype as Dtype].bytes, 0);
        const sizes = layout.open === null ? [0] : Array.from({ length: 201 }, (_, i) => i + 1);
        const fitting = sizes.filter((size) => bytesFor(size) === length);
        expect(fitting.length).to.be.at.most(1);
        expect(layout.accepts(Buffer.alloc(length), 0, length)).to.equal(fitting.length === 1);
        expect(layout.parse(Buffer.alloc(length))?.size).to.equal(fitting[0]);
      }),
    );
  });

  it('of any bytes is accepted exactly when it can be taken apart, and then has these bytes', () => {
    const layouts = [
      layoutOf([inputPlan('s', 'string', ['n'])]),
      layoutOf([inputPlan('s', 'string', [2])]),
      layoutOf([inputPlan('a', 'uint8', [2]), inputPlan('s', 'string', ['n', 2]), inputPlan('b', 'uint8', ['n'])]),
      layoutOf([inputPlan('s', 'string', [1]), inputPlan('b', 'int16', ['n', 'n'])]),
    ];
    const piece = fc.oneof(
      { weight: 3, arbitrary: text.map((string) => [...encodeStrings([string])]) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 5 }).map((bytes) => [...bytes]) },
    );
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        const payload = Buffer.from(pieces.flat());
        for (const layout of layouts) {
          const parsed = layout.parse(payload);
          expect(layout.accepts(payload, 0, payload.length)).to.equal(parsed !== null);
          if (parsed === null) continue;
          accepted++;
          const again = layout.fields.map(({ input }, i) => {
            const at = parsed.offsets[i] as number;
            const length = count(input, parsed.size);
            if (input.dtype === 'string') return parsed.strings[i] as readonly string[];
            return payload.subarray(at, at + length * dtypes[input.dtype].bytes);
          });
          expect(encode(again)).to.deep.equal(payload);
        }
      }),
      { numRuns: 500 },
    );
    expect(accepted).to.be.greaterThan(100);
  });

  it('leaves constants out', () => {
    const layout = layoutOf([
      inputPlan('x', 'float32', ['b', 512]),
      { ...inputPlan('sr', 'int64', []), isConstant: true },
    ]);
    expect(layout.bytes).to.equal(2048);
  });

  it('may have several rows, as many as a run may have', () => {
    const rows = (name: string, dims: readonly (number | string)[], batchAxis: number): InputPlan => ({
      ...inputPlan(name, 'float32', dims, batchAxis),
      requestDims: dims,
    });
    const layout = layoutOf([rows('x', ['rows', 4], 0), rows('state', [2, 'rows', 3], 1)], 5);
    const bytes = (count: number): number => count * (4 + 6) * 4;
    for (const count of [1, 2, 5]) {
      expect(layout.parse(Buffer.alloc(bytes(count)))?.size).to.equal(count);
      expect(layout.rowsFor(count)).to.equal(count);
    }
    expect(layout.accepts(Buffer.alloc(bytes(6)), 0, bytes(6))).to.equal(false);
    expect(layout.accepts(Buffer.alloc(0), 0, 0)).to.equal(false);
  });
});

describe('a plan whose shapes a payload cannot say is refused with what would mend it', () => {
  const refused = (inputs: readonly InputPlan[], ...messages: readonly string[]) => {
    for (const message of messages) expect(() => layoutOf(inputs, 8)).to.throw(Error, message);
  };

  it('when several dimensions are dynamic', () => {
    refused(
      [inputPlan('image', 'float32', ['b', 3, 'height', 'width']), inputPlan('mask', 'bool', ['b', 'height'])],
      'there are 2 (height, width of image; height of mask)',
      'for example "inputs": {"image":{"shape":[1,3,"height",64]}}',
    );
  });

  it('when another dimension is 0', () => {
    refused([inputPlan('x', 'float32', ['n', 0])], 'cannot say the size of n', 'inputs.x.shape');
  });

  it('when what stands before strings has no known size', () => {
    refused([inputPlan('x', 'float32', ['n']), inputPlan('s', 'string', [2])], 'x stands before inputs of strings');
    refused(
      [inputPlan('s', 'string', ['n']), inputPlan('x', 'float32', ['n']), inputPlan('t', 'string', ['n'])],
      'x stands between inputs of strings',
    );
  });

  it('when a request has more rows than a run, or inputs disagree', () => {
    const many: InputPlan = { ...inputPlan('x', 'float32', ['b', 2]), requestDims: [9, 2] };
    refused([many], 'a request has 9 rows, and a run takes 8 at the most');
    refused([many, inputPlan('y', 'float32', ['b', 2])], 'disagree on its rows: 9 of x, 1 of y');
  });
});
