// Takes ZipMap out of a model. scikit-learn's, LightGBM's and CatBoost's exporters put it behind the probabilities of a
// classifier: it makes of the tensor [N, classes] a sequence of N maps from class to probability. ONNX Runtime passes
// no maps to JavaScript, and the tensor says the same, with the classes once and not N times. So the model is changed
// when it is loaded: the tensor gets the name of the output.
//
//   … ─▶ probabilities ─▶ ZipMap ─▶ output        … ─▶ probabilities ─▶ Identity ─▶ output
//                                   [maps]                                          float32[?, classes]
//
// Only three things of the file change, each in its place: the node, the type of the output, and the types of what lies
// between. All other bytes stay as they are. The numbers of the fields are those of onnx.proto.

import type { ByteSource } from './bytes.js';
import { graphsIn, isIdentity, type Label, labelsOf, type Node, nameIn, nodesOf, outputsOf } from './nodes.js';
import { type Field, field, fieldsOf, header, message, type Span } from './protobuf.js';
import type { ModelDescription } from './read.js';
import type { DeclaredType, DeclaredValue } from './types.js';

export interface WithoutZipMap {
  /** The whole model. */
  readonly bytes: Buffer;
  readonly outputs: readonly DeclaredValue[];
  /** By output: the classes, in the order of their columns. */
  readonly labels: ReadonlyMap<string, readonly Label[]>;
}

/** Why an output of maps cannot become a tensor; continues a sentence that names the output. */
export class NotByZipMap extends Error {}

/** One change of a file: these bytes in place of those at the span. */
interface Edit extends Span {
  readonly bytes: Uint8Array;
}

interface Chain {
  readonly zipMap: Node;
  readonly labels: readonly Label[];
  /** The names that hold maps, from ZipMap's output to that of the model. */
  readonly names: readonly string[];
}

/** protobuf's own limit. */
const maxDepth = 100;
/** Exporters put one Identity in a row. */
const maxChain = 100;

export const isOfMaps = ({ type }: DeclaredValue): boolean => type.kind === 'sequence' && type.of.kind === 'map';

/**
 * Reads the whole file. Throws NotByZipMap when one of these outputs does not come straight from a ZipMap, and
 * MalformedFile.
 */
export function takeOutZipMaps(
  source: ByteSource,
  model: ModelDescription,
  maps: readonly DeclaredValue[],
): WithoutZipMap {
  const chains = findChains(source, model, maps);
  const types = new Map<string, DeclaredType>();
  for (const { output, chain } of chains)
    types.set(output, { kind: 'tensor', elementType: 'float32', dims: [null, chain.labels.length] });
  const [graph] = model.graphs as [Field];
  return {
    bytes: edited(source, graph, editsOf(source, graph, chains)),
    outputs: model.outputs.map((output) => ({ ...output, type: types.get(output.name) ?? output.type })),
    labels: new Map(chains.map(({ output, chain }) => [output, chain.labels])),
  };
}

function findChains(
  source: ByteSource,
  model: ModelDescription,
  maps: readonly DeclaredValue[],
): readonly { readonly output: string; readonly chain: Chain }[] {
  const [graph, second] = model.graphs;
  if (graph === undefined || second !== undefined) throw new NotByZipMap('the file has several graphs');
  const makers = makersOf(source, graph);
  const chains = maps.map(({ name }) => ({ output: name, chain: chainTo(source, name, makers) }));
  const holders = new Set(chains.flatMap(({ chain }) => chain.names));
  refuseOtherUses(source, graph, holders, 0);
  return chains;
}

/** The nodes that can pass on maps, by their output. */
function makersOf(source: ByteSource, graph: Span): ReadonlyMap<string, Node> {
  const makers = new Map<string, Node>();
  for (const node of nodesOf(source, graph)) {
    const [output] = node.outputs;
    if (output !== undefined && (isZipMap(node) || isIdentity(node))) makers.set(output, node);
  }
  return makers;
}

const isZipMap = ({ op, domain, inputs, outputs }: Node): boolean =>
  op === 'ZipMap' && domain === 'ai.onnx.ml' && inputs.length === 1 && outputs.length === 1;

function chainTo(source: ByteSource, output: string, makers: ReadonlyMap<string, Node>): Chain {
  const names: string[] = [];
  for (let name: string | undefined = output; name !== undefined && names.length < maxChain; ) {
    names.push(name);
    const maker = makers.get(name);
    if (maker !== undefined && isZipMap(maker)) return { zipMap: maker, labels: classesOf(source, maker), names };
    name = maker?.inputs[0];
  }
  throw new NotByZipMap('they do not come straight from a ZipMap node of the graph');
}

const attributes: ReadonlySet<string> = new Set(['classlabels_strings', 'classlabels_int64s']);

function classesOf(source: ByteSource, zipMap: Node): readonly Label[] {
  const classes = labelsOf(source, zipMap, attributes);
  if (classes === null) throw new NotByZipMap('its ZipMap names no classes, or names them twice');
  return classes;
}

/** Nobody else may take the maps: not a node of the graph, and not one of the graphs inside of nodes (If, Loop). */
function refuseOtherUses(source: ByteSource, graph: Span, holders: ReadonlySet<string>, depth: number): void {
  for (const node of nodesOf(source, graph)) {
    const used = node.inputs.find((input) => holders.has(input));
    if (used !== undefined && !(depth === 0 && isIdentity(node) && holders.has(node.outputs[0] ?? '')))
      throw new NotByZipMap(`a node ${node.op.slice(0, 60)} takes them too`);
    for (const inner of graphsIn(source, node)) {
      if (depth >= maxDepth) throw new NotByZipMap('its graphs nest too deep');
      refuseOtherUses(source, inner, holders, depth + 1);
      for (const name of outputsOf(source, inner)) {
        if (holders.has(name)) throw new NotByZipMap(`a graph in a node ${node.op.slice(0, 60)} returns them too`);
      }
    }
  }
}

function editsOf(
  source: ByteSource,
  graph: Span,
  chains: readonly { readonly output: string; readonly chain: Chain }[],
): readonly Edit[] {
  const nodes = new Map(chains.map(({ chain: { zipMap } }) => [zipMap.field.start, zipMap]));
  const columns = new Map(chains.map(({ output, chain }) => [output, chain.labels.length]));
  const holders = new Set(chains.flatMap(({ chain }) => chain.names));
  const edits: Edit[] = [];
  for (const part of fieldsOf(source, graph)) {
    if (part.kind !== 'bytes') continue;
    const edit = (bytes: Uint8Array): void => void edits.push({ from: part.start, to: part.to, bytes });
    const zipMap = nodes.get(part.start);
    if (part.number === 1 && zipMap !== undefined) edit(field(1, identity(zipMap)));
    if (part.number === 12 && columns.has(nameIn(source, part))) {
      const name = nameIn(source, part);
      edit(field(12, floats(name, columns.get(name) ?? 0)));
    }
    // What the model says of the types between is no longer true; ONNX Runtime finds them by itself.
    if (part.number === 13 && holders.has(nameIn(source, part))) edit(Buffer.alloc(0));
  }
  return edits;
}

const identity = ({ name, inputs, outputs }: Node): Buffer =>
  message(
    field(1, inputs[0] ?? ''),
    field(2, outputs[0] ?? ''),
    ...(name === '' ? [] : [field(3, name)]),
    field(4, 'Identity'),
  );

/** ValueInfoProto: float32[?, columns] */
function floats(name: string, columns: number): Buffer {
  const shape = message(field(1, Buffer.alloc(0)), field(1, message(field(1, columns))));
  return message(field(1, name), field(2, message(field(1, message(field(1, 1), field(2, shape))))));
}

/** The file with a changed graph. The weights are copied once. */
function edited(source: ByteSource, graph: Field, edits: readonly Edit[]): Buffer {
  const length = edits.reduce((sum, { from, to, bytes }) => sum + bytes.length - (to - from), graph.to - graph.from);
  const pieces: (Span | Uint8Array)[] = [{ from: 0, to: graph.start }, header(graph.number, length)];
  let at = graph.from;
  for (const { from, to, bytes } of edits) {
    pieces.push({ from: at, to: from }, bytes);
    at = to;
  }
  pieces.push({ from: at, to: source.length });
  const all = Buffer.allocUnsafeSlow(pieces.reduce((sum, piece) => sum + sizeOf(piece), 0));
  let end = 0;
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) all.set(piece, end);
    else source.copyInto(all, end, piece);
    end += sizeOf(piece);
  }
  return all;
}

const sizeOf = (piece: Span | Uint8Array): number =>
  piece instanceof Uint8Array ? piece.length : piece.to - piece.from;
