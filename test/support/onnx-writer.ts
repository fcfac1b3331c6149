// Writes small ONNX models, of any dtype and shape: the message formats are onnx.proto's of the ONNX project (IR 8,
// opset 17), in the wire format of Protocol Buffers.

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
  /** A text names a dynamic dimension. */
  readonly shape: readonly (number | string)[];
}

export interface NodeSpec {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Integer attributes. */
  readonly attributes?: Readonly<Record<string, number>>;
}

export interface ConstantSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface GraphSpec {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly nodes: readonly NodeSpec[];
  readonly constants?: readonly ConstantSpec[];
}

export function writeOnnx({ inputs, outputs, nodes, constants = [] }: GraphSpec): Buffer {
  const graph = message(
    ...nodes.map((node) => field(1, nodeProto(node))),
    field(2, 'generated'),
    ...constants.map((constant) => field(5, constantProto(constant))),
    ...inputs.map((input) => field(11, valueInfo(input))),
    ...outputs.map((output) => field(12, valueInfo(output))),
  );
  return message(field(1, 8), field(2, 'ml-tcp-server tests'), field(7, graph), field(8, message(field(2, 17))));
}

function nodeProto({ op, inputs, outputs, attributes = {} }: NodeSpec): Buffer {
  return message(
    ...inputs.map((name) => field(1, name)),
    ...outputs.map((name) => field(2, name)),
    field(4, op),
    // AttributeProto: name, i, and 2 = INT as its type.
    ...Object.entries(attributes).map(([name, i]) => field(5, message(field(1, name), field(3, i), field(20, 2)))),
  );
}

function valueInfo({ name, dtype, shape }: TensorSpec): Buffer {
  const dims = shape.map((dim) => field(1, message(typeof dim === 'number' ? field(1, dim) : field(2, dim))));
  const tensor = message(field(1, elementTypes[dtype]), field(2, message(...dims)));
  return message(field(1, name), field(2, message(field(1, tensor))));
}

function constantProto({ name, shape, values }: ConstantSpec): Buffer {
  return message(...shape.map((dim) => field(1, dim)), field(2, elementTypes.float32), field(8, name), rawData(values));
}

const rawData = (values: Float32Array): Buffer =>
  field(9, Buffer.from(values.buffer, values.byteOffset, values.byteLength));

const message = (...fields: readonly Buffer[]): Buffer => Buffer.concat(fields);

function field(number: number, value: number | string | Buffer): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 128);
  }
}
