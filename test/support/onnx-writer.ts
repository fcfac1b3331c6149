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
  /** A text names a dynamic dimension; null: the model does not give the shape. */
  readonly shape: readonly (number | string)[] | null;
}

/** An integer, a list of integers, or a graph (the body of a Loop). */
export type AttributeSpec = number | readonly number[] | GraphSpec;

export interface NodeSpec {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
}

export interface ConstantSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** float32, int8, uint8, int64; bytes are bool when `isBool`. */
  readonly values: Float32Array | Int8Array | Uint8Array | BigInt64Array;
  readonly isBool?: boolean;
  /** The file beside the model that holds the bytes, if the model does not. */
  readonly externalFile?: string;
}

export interface GraphSpec {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly nodes: readonly NodeSpec[];
  readonly constants?: readonly ConstantSpec[];
}

export function writeOnnx(graph: GraphSpec): Buffer {
  return message(
    field(1, 8),
    field(2, 'ml-tcp-server tests'),
    field(7, graphProto(graph)),
    field(8, message(field(2, 17))),
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

function nodeProto({ op, inputs, outputs, attributes = {} }: NodeSpec): Buffer {
  return message(
    ...inputs.map((name) => field(1, name)),
    ...outputs.map((name) => field(2, name)),
    field(4, op),
    ...Object.entries(attributes).map(([name, value]) => field(5, attributeProto(name, value))),
  );
}

/** AttributeProto: name, the value in the field of its kind, and its type (2 = INT, 5 = GRAPH, 7 = INTS). */
function attributeProto(name: string, value: AttributeSpec): Buffer {
  if (typeof value === 'number') return message(field(1, name), field(3, value), field(20, 2));
  if (isList(value)) return message(field(1, name), ...value.map((item) => field(8, item)), field(20, 7));
  return message(field(1, name), field(6, graphProto(value)), field(20, 5));
}

const isList = (value: readonly number[] | GraphSpec): value is readonly number[] => Array.isArray(value);

function valueInfo({ name, dtype, shape }: TensorSpec): Buffer {
  const dims = shape?.map((dim) => field(1, message(typeof dim === 'number' ? field(1, dim) : field(2, dim))));
  const tensor = message(field(1, elementTypes[dtype]), ...(dims === undefined ? [] : [field(2, message(...dims))]));
  return message(field(1, name), field(2, message(field(1, tensor))));
}

function constantProto({ name, shape, values, isBool = false, externalFile }: ConstantSpec): Buffer {
  const dtype = isBool ? 'bool' : dtypeOf(values);
  const dims = shape.map((dim) => field(1, dim));
  if (externalFile !== undefined) {
    const location = message(field(1, 'location'), field(2, externalFile));
    // data_location 1: EXTERNAL.
    return message(...dims, field(2, elementTypes[dtype]), field(8, name), field(13, location), field(14, 1));
  }
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return message(...dims, field(2, elementTypes[dtype]), field(8, name), field(9, bytes));
}

function dtypeOf(values: ConstantSpec['values']): ElementType {
  if (values instanceof Float32Array) return 'float32';
  if (values instanceof Int8Array) return 'int8';
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
