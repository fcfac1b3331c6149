// Reads from a model file what the model declares: what goes in and out, who made it and for which runtime. Weights
// are passed over: of a file of 2 GB a few hundred kilobytes are read.
// The numbers of the fields are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

import { type ByteSource, MalformedFile } from './bytes.js';
import { type Field, fieldsOf, type Span, textOf } from './protobuf.js';
import { type DeclaredDim, type DeclaredType, type DeclaredValue, elementTypeOf } from './types.js';

export interface ModelDescription {
  readonly irVersion: number;
  readonly producer: string;
  /** By domain; '' is that of ONNX itself. */
  readonly opsets: ReadonlyMap<string, number>;
  /** What callers have to give, in order: without those that the model has values for. */
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
  readonly externalData: readonly ExternalData[];
  /** Where the graphs lie: one, if the file is as it should be. */
  readonly graphs: readonly Field[];
}

/** Weights that lie in another file. */
export interface ExternalData {
  /** Relative to the folder of the model. */
  readonly location: string;
  /** The least size of the file. */
  readonly bytes: number;
}

/** Types nest no deeper in practice than sequence(map(…)). */
const maxDepth = 16;
const maxValues = 10_000;

/** Throws MalformedFile. */
export function readModel(source: ByteSource): ModelDescription {
  let irVersion = 0;
  let producer = '';
  const opsets = new Map<string, number>();
  const graphs: Field[] = [];
  for (const field of fieldsOf(source, { from: 0, to: source.length })) {
    if (field.number === 1 && field.kind === 'varint') irVersion = Number(field.value);
    if (field.kind !== 'bytes') continue;
    if (field.number === 2) producer = textOf(source, field);
    if (field.number === 7) graphs.push(field);
    if (field.number === 8) addOpset(source, field, opsets);
  }
  if (graphs.length === 0) throw new MalformedFile('it has no graph');
  return { irVersion, producer, opsets, graphs, ...readGraphs(source, graphs) };
}

function addOpset(source: ByteSource, span: Span, opsets: Map<string, number>): void {
  let domain = '';
  let version = 0;
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'bytes') domain = textOf(source, field);
    if (field.number === 2 && field.kind === 'varint') version = Number(field.value);
  }
  opsets.set(domain === 'ai.onnx' ? '' : domain, version);
}

function readGraphs(
  source: ByteSource,
  graphs: readonly Span[],
): Pick<ModelDescription, 'inputs' | 'outputs' | 'externalData'> {
  const inputs: DeclaredValue[] = [];
  const outputs: DeclaredValue[] = [];
  const constants = new Set<string>();
  const external = new Map<string, number>();
  for (const graph of graphs) {
    for (const field of fieldsOf(source, graph)) {
      if (field.kind !== 'bytes') continue;
      if (field.number === 11) inputs.push(readValue(source, field));
      if (field.number === 12) outputs.push(readValue(source, field));
      if (field.number === 5) constants.add(readConstant(source, field, external));
      if (inputs.length + outputs.length > maxValues)
        throw new MalformedFile(`it has more than ${maxValues} inputs and outputs`);
    }
  }
  return {
    inputs: inputs.filter(({ name }) => !constants.has(name)),
    outputs,
    externalData: [...external].map(([location, bytes]) => ({ location, bytes })),
  };
}

/** The name of an initializer (TensorProto); notes where its bytes lie, if not in the model. */
function readConstant(source: ByteSource, span: Span, external: Map<string, number>): string {
  let name = '';
  let isExternal = false;
  const entries = new Map<string, string>();
  for (const field of fieldsOf(source, span)) {
    if (field.number === 8 && field.kind === 'bytes') name = textOf(source, field);
    if (field.number === 14 && field.kind === 'varint') isExternal = field.value === 1;
    if (field.number === 13 && field.kind === 'bytes') addEntry(source, field, entries);
  }
  const location = entries.get('location');
  if (isExternal && location !== undefined) {
    const end = Number(entries.get('offset') ?? 0) + Number(entries.get('length') ?? 0);
    external.set(location, Math.max(external.get(location) ?? 0, Number.isSafeInteger(end) ? end : 0));
  }
  return name;
}

/** StringStringEntryProto */
function addEntry(source: ByteSource, span: Span, entries: Map<string, string>): void {
  let key = '';
  let value = '';
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'bytes') key = textOf(source, field);
    if (field.number === 2 && field.kind === 'bytes') value = textOf(source, field);
  }
  entries.set(key, value);
}

/** ValueInfoProto */
export function readValue(source: ByteSource, span: Span): DeclaredValue {
  let name = '';
  let type: DeclaredType = { kind: 'unknown' };
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'bytes') name = textOf(source, field);
    if (field.number === 2 && field.kind === 'bytes') type = readType(source, field, 0);
  }
  return { name, type };
}

/** TypeProto; the number of the field says the kind. */
function readType(source: ByteSource, span: Span, depth: number): DeclaredType {
  if (depth > maxDepth) throw new MalformedFile('its types nest without an end');
  let type: DeclaredType = { kind: 'unknown' };
  for (const field of fieldsOf(source, span)) {
    if (field.kind !== 'bytes') continue;
    if (field.number === 1) type = { kind: 'tensor', ...readTensorType(source, field) };
    if (field.number === 8) type = { kind: 'sparse', ...readTensorType(source, field) };
    if (field.number === 4) type = { kind: 'sequence', of: readElement(source, field, 1, depth) };
    if (field.number === 9) type = { kind: 'optional', of: readElement(source, field, 1, depth) };
    if (field.number === 5) type = readMapType(source, field, depth);
  }
  return type;
}

function readElement(source: ByteSource, span: Span, number: number, depth: number): DeclaredType {
  let type: DeclaredType = { kind: 'unknown' };
  for (const field of fieldsOf(source, span)) {
    if (field.number === number && field.kind === 'bytes') type = readType(source, field, depth + 1);
  }
  return type;
}

function readMapType(source: ByteSource, span: Span, depth: number): DeclaredType {
  let key = elementTypeOf(0);
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'varint') key = elementTypeOf(Number(field.value));
  }
  return { kind: 'map', key, value: readElement(source, span, 2, depth) };
}

function readTensorType(
  source: ByteSource,
  span: Span,
): { readonly elementType: string; readonly dims: readonly DeclaredDim[] | null } {
  let elementType = elementTypeOf(0);
  let dims: DeclaredDim[] | null = null;
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'varint') elementType = elementTypeOf(Number(field.value));
    if (field.number === 2 && field.kind === 'bytes') dims = readShape(source, field);
  }
  return { elementType, dims };
}

/** TensorShapeProto */
function readShape(source: ByteSource, span: Span): DeclaredDim[] {
  const dims: DeclaredDim[] = [];
  for (const field of fieldsOf(source, span)) {
    if (field.number === 1 && field.kind === 'bytes') dims.push(readDim(source, field));
    if (dims.length > maxValues) throw new MalformedFile(`a tensor has more than ${maxValues} dimensions`);
  }
  return dims;
}

function readDim(source: ByteSource, span: Span): DeclaredDim {
  let dim: DeclaredDim = null;
  for (const field of fieldsOf(source, span)) {
    // A negative size means the same as none: some exporters write -1.
    if (field.number === 1 && field.kind === 'varint') dim = field.value >= 0 ? Number(field.value) : null;
    if (field.number === 2 && field.kind === 'bytes') dim = textOf(source, field) || null;
  }
  return dim;
}
