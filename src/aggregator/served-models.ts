// The JSON of GET /api/models: what each model takes and gives, how requests share a run, and which nodes serve it. It is
// apart from /metrics, since plans are large and seldom change.

import type { NodeRecord, PublishedModel, WorkerRecord } from '../metrics/snapshot.js';

export interface ServedModels {
  readonly models: readonly ServedModel[];
}

export interface ServedModel {
  readonly name: string;
  /** What workers serve now: one entry, except during a reload, or when nodes differ. */
  readonly served: readonly ServedVersion[];
}

export interface ServedVersion {
  readonly version: string;
  /** Where it is served. */
  readonly nodes: readonly string[];
  readonly workers: number;
  /** Where it runs: inline or thread. */
  readonly execution: readonly string[];
  /** Requests that may share a run. */
  readonly max_rows: number;
  /** Why not more. */
  readonly max_rows_because: readonly string[];
  /** Why each request gets a run of its own; null when requests may share one. */
  readonly runs_alone_because: string | null;
  /** Its backend, inputs and outputs, as text; null when its node has not told yet. */
  readonly signature: string | null;
  /** Null for a model whose payloads only it understands, and when its node has not told yet. */
  readonly plan: ServedPlan | null;
}

export interface ServedPlan {
  readonly inputs: readonly (ServedTensor & { readonly is_constant: boolean })[];
  readonly outputs: readonly (ServedTensor & {
    readonly is_returned: boolean;
    readonly labels: readonly (string | number)[] | null;
  })[];
  /** The batch size that the model requires; null when it is dynamic or there is none. */
  readonly fixed_batch: number | null;
  readonly notes: readonly string[];
  /** How many inputs and outputs it has: of very many, the first ones are listed. */
  readonly input_count: number;
  readonly output_count: number;
  /** Whether anything was left out; `ml-tcp-server status --json` on a node has all of it. */
  readonly is_cut: boolean;
}

/** A dimension is a number, or the name of a dynamic one. */
export interface ServedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
  /** Along which axis requests are joined, `shared` by all requests of a run, or `none`. */
  readonly batch_axis: number | 'shared' | 'none';
  /** Of one request. */
  readonly request_dims: readonly (number | string)[];
}

/** Those that publish now. */
export interface Publishing {
  readonly nodes: readonly NodeRecord[];
  readonly workers: readonly WorkerRecord[];
}

/** Workers of one node serve the same; nodes that tell the same of a model are one entry. */
export function servedModels({ nodes, workers }: Publishing): ServedModels {
  const told = new Map(nodes.map((node) => [node.run, node]));
  const found = new Map<string, Map<string, Gathered>>();
  for (const { run, node, gauges } of workers) {
    for (const [name, { version, execution, maxRows, maxRowsBecause }] of Object.entries(gauges.models)) {
      const published = told.get(run)?.models?.[name];
      const model = published?.version === version ? published : null;
      const signature = model === null ? null : (told.get(run)?.signatures?.[name] ?? null);
      const versions = found.get(name) ?? new Map<string, Gathered>();
      found.set(name, versions);
      const key = keyOf(version, signature, model);
      const entry = versions.get(key) ?? gathered(version, signature, model);
      versions.set(key, entry);
      entry.nodes.add(node);
      entry.executions.add(execution);
      entry.workers++;
      entry.maxRows = Math.min(entry.maxRows, maxRows ?? 0); // versions before 0.2 do not say
      if (maxRowsBecause !== undefined) entry.maxRowsBecause.add(maxRowsBecause);
    }
  }
  const models = [...found].map(([name, versions]) => ({ name, served: [...versions.values()].map(served) }));
  return { models: models.toSorted((a, b) => a.name.localeCompare(b.name)) };
}

interface Gathered {
  readonly version: string;
  readonly signature: string | null;
  readonly model: PublishedModel | null;
  readonly nodes: Set<string>;
  readonly executions: Set<string>;
  workers: number;
  maxRows: number;
  readonly maxRowsBecause: Set<string>;
}

const gathered = (version: string, signature: string | null, model: PublishedModel | null): Gathered => ({
  version,
  signature,
  model,
  nodes: new Set(),
  executions: new Set(),
  workers: 0,
  maxRows: Number.POSITIVE_INFINITY,
  maxRowsBecause: new Set(),
});

/** A node's model is looked at once for each of its workers. */
const texts = new WeakMap<PublishedModel, string>();

function keyOf(version: string, signature: string | null, model: PublishedModel | null): string {
  if (model === null) return version;
  const text = texts.get(model) ?? JSON.stringify(model);
  texts.set(model, text);
  return `${version} ${signature} ${text}`;
}

function served({
  version,
  signature,
  model,
  nodes,
  executions,
  workers,
  maxRows,
  maxRowsBecause,
}: Gathered): ServedVersion {
  return {
    version,
    nodes: [...nodes].sort(),
    workers,
    execution: [...executions].sort(),
    max_rows: maxRows,
    max_rows_because: [...maxRowsBecause].sort(),
    runs_alone_because: model?.runsAloneBecause ?? null,
    signature,
    plan: planOf(model?.plan ?? null),
  };
}

function planOf(plan: PublishedModel['plan']): ServedPlan | null {
  if (plan === null) return null;
  const { inputs, outputs, fixedBatch, notes, inputCount, outputCount, isCut } = plan;
  return {
    inputs: inputs.map(({ batchAxis, requestDims, isConstant, ...tensor }) => ({
      ...tensor,
      batch_axis: batchAxis,
      request_dims: requestDims,
      is_constant: isConstant,
    })),
    outputs: outputs.map(({ batchAxis, requestDims, isReturned, ...tensor }) => ({
      ...tensor,
      batch_axis: batchAxis,
      request_dims: requestDims,
      is_returned: isReturned,
    })),
    fixed_batch: fixedBatch,
    notes,
    input_count: inputCount,
    output_count: outputCount,
    is_cut: isCut,
  };
}
