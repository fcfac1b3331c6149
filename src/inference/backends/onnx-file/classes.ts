// What the columns of a classifier's probabilities stand for, where its file says so: exported without ZipMap, the node
// that classifies still names its classes.

import type { ByteSource } from './bytes.js';
import { isIdentity, type Label, labelsOf, type Node, nodesOf } from './nodes.js';
import type { ModelDescription } from './read.js';
import type { DeclaredValue } from './types.js';

/** Their second output has a column for each class, in the order in which they name them. */
const classifiers: ReadonlySet<string> = new Set(['TreeEnsembleClassifier', 'LinearClassifier']);
const attributes: ReadonlySet<string> = new Set(['classlabels_strings', 'classlabels_int64s', 'classlabels_ints']);
/** Between a classifier and an output there are few nodes. */
const maxChain = 100;

const isMl = ({ domain }: Node): boolean => domain === 'ai.onnx.ml';
const isClassifier = (node: Node): boolean => isMl(node) && classifiers.has(node.op);
/** Whether it changes numbers, and leaves the columns where they are. */
const keepsColumns = (node: Node): boolean =>
  isIdentity(node) || (node.op === 'Normalizer' && isMl(node)) || (node.op === 'Softmax' && node.domain === '');

/** By output: its classes. Throws MalformedFile. */
export function classesOf(
  source: ByteSource,
  { opsets, graphs, outputs }: ModelDescription,
): ReadonlyMap<string, readonly Label[]> {
  const found = new Map<string, readonly Label[]>();
  if (!opsets.has('ai.onnx.ml')) return found;
  const makers = new Map<string, Node>();
  for (const graph of graphs) {
    for (const node of nodesOf(source, graph)) {
      const output = node.outputs[isClassifier(node) ? 1 : 0];
      if (output !== undefined && (isClassifier(node) || keepsColumns(node))) makers.set(output, node);
    }
  }
  for (const output of outputs) {
    const classifier = classifierOf(output.name, makers);
    const labels = classifier && labelsOf(source, classifier, attributes);
    if (labels !== null && labels.length === columnsOf(output)) found.set(output.name, labels);
  }
  return found;
}

function classifierOf(output: string, makers: ReadonlyMap<string, Node>): Node | null {
  let name: string | undefined = output;
  for (let i = 0; i < maxChain && name !== undefined; i++) {
    const maker = makers.get(name);
    if (maker === undefined || isClassifier(maker)) return maker ?? null;
    name = maker.inputs[0];
  }
  return null;
}

/** The declared size of the last of two dimensions. */
function columnsOf({ type }: DeclaredValue): number | null {
  const size = type.kind === 'tensor' && type.dims?.length === 2 ? type.dims[1] : null;
  return typeof size === 'number' ? size : null;
}
