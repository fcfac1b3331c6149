// The types of what goes into a model and comes out of it, as its file declares them.

/** TensorProto.DataType of onnx.proto, in the words of ONNX Runtime's JavaScript. */
const elementTypes: readonly string[] = [
  'undefined',
  'float32',
  'uint8',
  'int8',
  'uint16',
  'int16',
  'int32',
  'int64',
  'string',
  'bool',
  'float16',
  'float64',
  'uint32',
  'uint64',
  'complex64',
  'complex128',
  'bfloat16',
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'uint4',
  'int4',
  'float4e2m1',
  'float8e8m0',
  'uint2',
  'int2',
];

export const elementTypeOf = (code: number): string => elementTypes[code] ?? `type ${code}`;

/** A number is fixed, a text is a name, null is dynamic and has no name. */
export type DeclaredDim = number | string | null;

export type DeclaredType =
  /** `dims` is null when the model does not give them. */
  | { readonly kind: 'tensor' | 'sparse'; readonly elementType: string; readonly dims: readonly DeclaredDim[] | null }
  | { readonly kind: 'sequence' | 'optional'; readonly of: DeclaredType }
  | { readonly kind: 'map'; readonly key: string; readonly value: DeclaredType }
  | { readonly kind: 'unknown' };

/** An input or an output. */
export interface DeclaredValue {
  readonly name: string;
  readonly type: DeclaredType;
}

export function describeType(type: DeclaredType): string {
  switch (type.kind) {
    case 'tensor':
      return type.dims === null ? type.elementType : `${type.elementType}[${type.dims.map((dim) => dim ?? '?')}]`;
    case 'sparse':
      return `sparse ${type.elementType}${type.dims === null ? '' : `[${type.dims.map((dim) => dim ?? '?')}]`}`;
    case 'sequence':
    case 'optional':
      return `${type.kind}(${describeType(type.of)})`;
    case 'map':
      return `map(${type.key}, ${describeType(type.value)})`;
    case 'unknown':
      return 'of no known type';
  }
}

/** The dtypes that ONNX Runtime for Node.js passes in and out: tried, each in both directions. */
const passed: ReadonlySet<string> = new Set([
  ...['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64'],
  ...['bool', 'string'],
]);

const isMaps = (type: DeclaredType): boolean =>
  type.kind === 'map' || ((type.kind === 'sequence' || type.kind === 'optional') && isMaps(type.of));

/** What makes a value of this type one that can be passed; null when it can be as it is. */
export function mendFor(type: DeclaredType, direction: 'input' | 'output'): string | null {
  switch (type.kind) {
    case 'unknown':
      return null;
    case 'tensor':
      return passed.has(type.elementType) ? null : elementMend(type.elementType, direction);
    case 'sparse':
      return 'export the model with a dense tensor in its place (in Python: `x.toarray()`, or `x.to_dense()` in PyTorch)';
    case 'map':
    case 'sequence':
      if (isMaps(type) && direction === 'input')
        return 'turn the maps into numbers before the model (in Python: `DictVectorizer(sparse=False).fit_transform(rows)`), and export only what follows';
      if (isMaps(type)) return 'export the model with a tensor of numbers in their place';
      return direction === 'input'
        ? 'let the model take one tensor, and split it inside (in PyTorch: `x.unbind(0)`)'
        : 'let the model return one tensor (in PyTorch: `torch.stack(xs)`), or each tensor as an output of its own';
    case 'optional':
      return `let the model ${direction === 'input' ? 'take' : 'return'} the value itself, always (in ONNX: OptionalGetElement)`;
  }
}

function elementMend(elementType: string, direction: 'input' | 'output'): string {
  if (/^b?float/.test(elementType))
    return 'export the model as float32 or float16 (in PyTorch: `torch.onnx.export(model.float(), …)`)';
  if (elementType.startsWith('complex'))
    return 'pass the real and the imaginary part as the last dimension of a float32 tensor (in PyTorch: `torch.view_as_real(x)`, `torch.view_as_complex(x)`)';
  if (/^u?int[24]$/.test(elementType)) {
    const wider = elementType.startsWith('u') ? 'uint8' : 'int8';
    return direction === 'input'
      ? `let the model take ${wider} and cast it inside (in ONNX: a Cast node behind the input)`
      : `let the model return ${wider} (in ONNX: a Cast node before the output)`;
  }
  return 'export the model with another type';
}
