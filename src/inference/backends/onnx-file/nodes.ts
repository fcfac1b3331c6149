// The nodes of a graph, as far as the way of a value through them needs. The numbers of the fields are those of
// onnx.proto.

import type { ByteSource } from './bytes.js';
import { type Field, fieldsOf, type Span, textOf, varintsOf } from './protobuf.js';

/** What a column of probabilities stands for; an integer that a number cannot hold is a text. */
export type Label = string | number;

export interface Node {
  /** Where it lies in its graph. */
  readonly field: Field;
  readonly op: string;
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** A classifier with more classes than this is none. */
const maxLabels = 100_000;

export const isIdentity = ({ op, domain, inputs, outputs }: Node): boolean =>
  op === 'Identity' && (domain === '' || domain === 'ai.onnx') && inputs.length === 1 && outputs.length === 1;

/** The names of a graph's outputs. */
export function* outputsOf(source: ByteSource, graph: Span): Generator<string> {
  for (const { number, kind, ...span } of fieldsOf(source, graph)) {
    if (number === 12 && kind === 'bytes') yield nameIn(source, span);
  }
}

/** The name of a ValueInfoProto. */
export function nameIn(source: ByteSource, span: Span): string {
  let name = '';
  for (const part of fieldsOf(source, span))
    if (part.number === 1 && part.kind === 'bytes') name = textOf(source, part);
  return name;
}

export function* nodesOf(source: ByteSource, graph: Span): Generator<Node> {
  for (const part of fieldsOf(source, graph))
    if (part.number === 1 && part.kind === 'bytes') yield nodeAt(source, part);
}

/** NodeProto, without its attributes. */
function nodeAt(source: ByteSource, whole: Field): Node {
  const texts = { op: '', domain: '', name: '' };
  const inputs: string[] = [];
  const outputs: string[] = [];
  for (const part of fieldsOf(source, whole)) {
    if (part.kind !== 'bytes') continue;
    if (part.number === 1) inputs.push(textOf(source, part));
    if (part.number === 2) outputs.push(textOf(source, part));
    if (part.number === 3) texts.name = textOf(source, part);
    if (part.number === 4) texts.op = textOf(source, part);
    if (part.number === 7) texts.domain = textOf(source, part);
  }
  return { field: whole, ...texts, inputs, outputs };
}

/**
 * The bodies of If, Loop and Scan: the fields g and graphs of AttributeProto. An attribute that begins with values of
 * another kind has none, and may have millions of values: the nodes of trees.
 */
export function* graphsIn(source: ByteSource, node: Node): Generator<Span> {
  for (const attribute of fieldsOf(source, node.field)) {
    if (attribute.number !== 5 || attribute.kind !== 'bytes') continue;
    for (const part of fieldsOf(source, attribute)) {
      if (part.number >= 2 && part.number <= 9 && part.number !== 6) break;
      if ((part.number === 6 || part.number === 11) && part.kind === 'bytes') yield part;
    }
  }
}

/** Null when the attributes of these names hold no labels, or more than one of them does. */
export function labelsOf(source: ByteSource, node: Node, names: ReadonlySet<string>): readonly Label[] | null {
  let labels: readonly Label[] | null = null;
  for (const attribute of fieldsOf(source, node.field)) {
    if (attribute.number !== 5 || attribute.kind !== 'bytes') continue;
    const found = [...labelsIn(source, attribute, names)];
    if (found.length === 0) continue;
    if (labels !== null || found.length > maxLabels) return null;
    labels = found;
  }
  return labels;
}

/** The integers or the texts of an AttributeProto; its name comes first. */
function* labelsIn(source: ByteSource, attribute: Span, names: ReadonlySet<string>): Generator<Label> {
  let isNamed = false;
  let count = 0;
  for (const part of fieldsOf(source, attribute)) {
    if (part.number === 1 && part.kind === 'bytes') isNamed = names.has(textOf(source, part));
    if (!isNamed || count > maxLabels) return;
    if (part.number === 9 && part.kind === 'bytes') yield textOf(source, part);
    if (part.number === 8)
      for (const value of varintsOf(source, part)) yield typeof value === 'number' ? value : String(value);
    if (part.number === 8 || part.number === 9) count++;
  }
}
