// Writes small ONNX models of any dtype and shape: the message formats are those of the ONNX project's onnx.proto (IR
// 8, opset 17), in the wire format of Protocol Buffers.

/** TensorProto.DataType */
export const elementTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
} as const;

export type ElementType = keyof typeof elementTypes;

export interface TensorSpec {
  readonly name: string;
  readonly dtype: ElementType;
  /** A text names a dynamic dimension, an empty one has no name; null: the model does not give the shape. */
  readonly shape: readonly (number | string)[] | null;
}

/** A map for each row, from a class to its score: what ZipMap makes of a tensor. */
export interface MapsSpec {
  readonly name: string;
  readonly keys: 'int64' | 'string';
}

/** An integer, a text, a list of integers, of texts or of float32, or a graph (the body of a Loop). */
export type AttributeSpec = number | string | readonly number[] | readonly string[] | Float32Array | GraphSpec;

export interface NodeSpec {
  readonly op: string;
  /** Of the operator; left out: ONNX's own. */
  readonly domain?: 'ai.onnx.ml';
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
}

export interface ConstantSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** float32, int8, uint8, int64, float16 (its 16 bits) or texts; bytes are bool when `isBool`. */
  readonly values: Float32Array | Int8Array | Uint8Array | BigInt64Array | Uint16Array | readonly string[];
  readonly isBool?: boolean;
  /** The file beside the model that holds the bytes, if the model does not. */
  readonly externalFile?: string;
}

export interface GraphSpec {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly (TensorSpec | MapsSpec)[];
  readonly nodes: readonly NodeSpec[];
  readonly constants?: readonly ConstantSpec[];
}

export function writeOnnx(graph: GraphSpec): Buffer {
  return message(
    field(1, 8),
    field(2, 'ml-tcp-server tests'),
    field(7, graphProto(graph)),
    field(8, message(field(2, 17))),
    field(8, message(field(1, 'ai.onnx.ml'), field(2, 3))),
  );
}

function graphProto({ inputs, outputs, nodes, constants = [] }: GraphSpec): Buffer {
  return message(
    ...nodes.map((node) => field(1, nodeProto(node))),
    field(2, 'generated'),
    ...constants.map((constant) => field(5, constantProto(constant))),
    ...inputs.map((input) => field(11, valueInfo(input))),
    ...outputs.map((output) => field(12, valueInfo(output))),
  );
}

function nodeProto({ op, domain, inputs, outputs, attributes = {} }: NodeSpec): Buffer {
  return message(
    ...inputs.map((name) => field(1, name)),
    ...outputs.map((name) => field(2, name)),
    field(4, op),
    ...Object.entries(attributes).map(([name, value]) => field(5, attributeProto(name, value))),
    ...(domain === undefined ? [] : [field(7, domain)]),
  );
}

/**
 * AttributeProto: name, the value in the field of its kind, and its type (2 = INT, 3 = STRING, 5 = GRAPH, 6 = FLOATS,
 * 7 = INTS, 8 = STRINGS).
 */
function attributeProto(name: string, value: AttributeSpec): Buffer {
  const typed = (type: number, ...fields: readonly Buffer[]): Buffer =>
    message(field(1, name), ...fields, field(20, type));
  if (typeof value === 'number') return typed(2, field(3, value));
  if (typeof value === 'string') return typed(3, field(4, value));
  if (value instanceof Float32Array) return typed(6, field(7, Buffer.from(value.buffer)));
  if (isList(value)) {
    const isText = typeof value[0] === 'string';
    return typed(isText ? 8 : 7, ...value.map((item) => field(isText ? 9 : 8, item)));
  }
  return typed(5, field(6, graphProto(value)));
}

const isList = (value: object): value is readonly (number | string)[] => Array.isArray(value);

function valueInfo(spec: TensorSpec | MapsSpec): Buffer {
  return message(field(1, spec.name), field(2, 'keys' in spec ? mapsType(spec) : tensorType(spec)));
}

function tensorType({ dtype, shape }: TensorSpec): Buffer {
  const dims = shape?.map((dim) => field(1, dimension(dim)));
  return message(
    field(1, message(field(1, elementTypes[dtype]), ...(dims === undefined ? [] : [field(2, message(...dims))]))),
  );
}

function dimension(dim: number | string): Buffer {
  if (dim === '') return Buffer.alloc(0);
  return typeof dim === 'number' ? field(1, dim) : field(2, dim);
}

/** TypeProto: a sequence (4) of maps (5) to float32. */
function mapsType({ keys }: MapsSpec): Buffer {
  const value = message(field(1, message(field(1, elementTypes.float32))));
  const map = message(field(1, elementTypes[keys]), field(2, value));
  return message(field(4, message(field(1, message(field(5, map))))));
}

function constantProto({ name, shape, values, isBool = false, externalFile }: ConstantSpec): Buffer {
  const dtype = isBool ? 'bool' : dtypeOf(values);
  const dims = shape.map((dim) => field(1, dim));
  if (externalFile !== undefined) {
    const location = message(field(1, 'location'), field(2, externalFile));
    // data_location 1: EXTERNAL.
    return message(...dims, field(2, elementTypes[dtype]), field(8, name), field(13, location), field(14, 1));
  }
  if (isList(values))
    return message(...dims, field(2, elementTypes.string), ...values.map((text) => field(6, text)), field(8, name));
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return message(...dims, field(2, elementTypes[dtype]), field(8, name), field(9, bytes));
}

function dtypeOf(values: ConstantSpec['values']): ElementType {
  if (values instanceof Float32Array) return 'float32';
  if (values instanceof Int8Array) return 'int8';
  if (values instanceof Uint16Array) return 'float16';
  if (isList(values)) return 'string';
  return values instanceof Uint8Array ? 'uint8' : 'int64';
}

const message = (...fields: readonly Buffer[]): Buffer => Buffer.concat(fields);

function field(number: number, value: number | string | Buffer): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  if (value < 0) return varint64(BigInt.asUintN(64, BigInt(value)));
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 128);
  }
}

function varint64(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}

/** x float32[1] → sin(sin(… x …)), x times: native code that runs for as long as a client likes. */
export const loop: GraphSpec = {
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 1] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 1] }],
  constants: [{ name: 'yes', shape: [], values: Uint8Array.of(1), isBool: true }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['most'], attributes: { keepdims: 0 } },
    { op: 'Cast', inputs: ['most'], outputs: ['times'], attributes: { to: elementTypes.int64 } },
    {
      op: 'Loop',
      inputs: ['times', 'yes', 'x'],
      outputs: ['y'],
      attributes: {
        body: {
          inputs: [
            { name: 'i', dtype: 'int64', shape: [] },
            { name: 'before', dtype: 'bool', shape: [] },
            { name: 'v', dtype: 'float32', shape: ['n', 1] },
          ],
          outputs: [
            { name: 'after', dtype: 'bool', shape: [] },
            { name: 'w', dtype: 'float32', shape: ['n', 1] },
          ],
          nodes: [
            { op: 'Identity', inputs: ['before'], outputs: ['after'] },
            { op: 'Sin', inputs: ['v'], outputs: ['w'] },
          ],
        },
      },
    },
  ],
};

/** x float32[columns] → x times a matrix of int8; one scale, taken from all rows of a batch, quantises them. */
export function dynamicallyQuantised(columns = 4, n: number | string = 'n'): GraphSpec {
  const weights = Int8Array.from({ length: columns * columns }, (_, i) => ((i * 37) % 255) - 127);
  return {
    inputs: [{ name: 'x', dtype: 'float32', shape: [n, columns] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [n, columns] }],
    constants: [{ name: 'w', shape: [columns, columns], values: weights }],
    nodes: [
      { op: 'DynamicQuantizeLinear', inputs: ['x'], outputs: ['q', 'scale', 'zeroPoint'] },
      { op: 'MatMulInteger', inputs: ['q', 'w', 'zeroPoint'], outputs: ['product'] },
      { op: 'Cast', inputs: ['product'], outputs: ['sum'], attributes: { to: elementTypes.float32 } },
      { op: 'Mul', inputs: ['sum', 'scale'], outputs: ['y'] },
    ],
  };
}

/** x float32[4] → x, without the rows that contain a number of 1000 or more: no proof can know of those. */
export const bounded: GraphSpec = {
  inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: null }],
  constants: [{ name: 'limit', shape: [1], values: Float32Array.of(1000) }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['most'], attributes: { axes: [1], keepdims: 0 } },
    { op: 'Less', inputs: ['most', 'limit'], outputs: ['isSmall'] },
    { op: 'Compress', inputs: ['x', 'isSmall'], outputs: ['y'], attributes: { axis: 0 } },
  ],
};
