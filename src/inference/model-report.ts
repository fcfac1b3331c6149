// What is told of a served model to the primary, to operators and to aggregators. Plans are as large as models are: one
// may have hundreds of inputs, or labels for thousands of classes. So each who passes a report on cuts it to what fits.

import type { InputPlan, ModelPlan, OutputPlan } from './plan.js';

export interface ModelReport {
  readonly version: string;
  /** Its backend, inputs and outputs, as text. */
  readonly signature: string;
  /** Why each request gets a run of its own; null when requests may share one. */
  readonly runsAloneBecause: string | null;
  /** Null for a model whose payloads only it understands. */
  readonly plan: ReportedPlan | null;
}

export interface ReportedPlan extends Omit<ModelPlan, 'runsAloneBecause'> {
  /** How many the model has; `inputs` and `outputs` may have fewer, the first ones. */
  readonly inputCount: number;
  readonly outputCount: number;
  /** Whether anything was left out, or cut: tensors, labels, notes, or the end of a long text. */
  readonly isCut: boolean;
}

/** Characters of a signature. */
const maxSignature = 300;

/** @param maxBytes as in `cutReport` */
export function reportOf(
  served: Pick<ModelReport, 'version' | 'signature' | 'runsAloneBecause'> & { readonly plan: ModelPlan | null },
  maxBytes: number,
): ModelReport {
  const { version, signature, runsAloneBecause, plan } = served;
  const whole = { version, signature: cut(signature, maxSignature), runsAloneBecause };
  if (plan === null) return cutReport({ ...whole, plan: null }, maxBytes);
  const { inputs, outputs, fixedBatch, notes } = plan;
  const counts = { inputCount: inputs.length, outputCount: outputs.length, isCut: false };
  return cutReport({ ...whole, plan: { inputs, outputs, fixedBatch, notes, ...counts } }, maxBytes);
}

/** Bytes for each of so many models, of which all together may take `allBytes`. */
export const shareOf = (allBytes: number, models: number, mostBytes: number): number =>
  Math.min(mostBytes, Math.floor(allBytes / Math.max(1, models)));

const limits = { name: 60, dim: 24, dims: 16, labels: 20, label: 40, reason: 300, notes: 2 } as const;

/**
 * As much of a report as its JSON has room for in `maxBytes`: long texts are cut first, then the last tensors are left
 * out, and the plan as a whole where there is no room for it.
 */
export function cutReport(report: ModelReport, maxBytes: number): ModelReport {
  if (jsonBytes(report) <= maxBytes) return report;
  const { version, signature, runsAloneBecause, plan } = report;
  const brief = {
    version: cut(version, limits.name),
    signature: cut(signature, limits.reason),
    runsAloneBecause: runsAloneBecause === null ? null : cut(runsAloneBecause, limits.reason),
  };
  if (plan === null) return { ...brief, plan: null };
  const empty = {
    ...plan,
    inputs: [],
    outputs: [],
    notes: plan.notes.slice(0, limits.notes).map((note) => cut(note, limits.reason)),
    isCut: true,
  };
  let room = maxBytes - jsonBytes({ ...brief, plan: empty });
  if (room < 0) return { ...brief, plan: { ...empty, notes: [] } };
  const fitting = <Tensor extends InputPlan | OutputPlan>(tensors: readonly Tensor[], atMost: number): Tensor[] => {
    const kept: Tensor[] = [];
    for (const tensor of tensors) {
      const bytes = jsonBytes(tensor) + 1;
      if (bytes > atMost) break;
      kept.push(tensor);
      room -= bytes;
      atMost -= bytes;
    }
    return kept;
  };
  // Half of the room for the outputs, unless they need less.
  const outputs = plan.outputs.map((output) => briefly(output));
  const inputs = plan.inputs.map((input) => briefly(input));
  const firstOutputs = fitting(outputs, Math.floor(room / 2));
  const firstInputs = fitting(inputs, room);
  return { ...brief, plan: { ...empty, inputs: firstInputs, outputs: firstOutputs } };
}

function briefly<Tensor extends InputPlan | OutputPlan>(tensor: Tensor): Tensor {
  const { name, dims, requestDims } = tensor;
  const labels = 'labels' in tensor ? { labels: briefLabels(tensor.labels) } : {};
  return {
    ...tensor,
    name: cutMiddle(name, limits.name),
    dims: briefDims(dims),
    requestDims: briefDims(requestDims),
    ...labels,
  };
}

const briefDims = (dims: readonly (number | string)[]): readonly (number | string)[] =>
  dims.slice(0, limits.dims).map((dim) => (typeof dim === 'string' ? cut(dim, limits.dim) : dim));

const briefLabels = (labels: OutputPlan['labels']): OutputPlan['labels'] =>
  labels?.slice(0, limits.labels).map((label) => (typeof label === 'string' ? cut(label, limits.label) : label)) ??
  null;

const cut = (text: string, length: number): string => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** Names of one model often differ at their ends. */
function cutMiddle(text: string, length: number): string {
  const end = Math.floor(length / 3);
  return text.length > length ? `${text.slice(0, length - end - 1)}…${text.slice(-end)}` : text;
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));
