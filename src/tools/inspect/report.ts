// What is to be told of a model, as data: `--json` prints it as it is. Fields are only ever added.

import type { ModelPlan } from '../../inference/plan.js';
import type { ServedModel, ServingSettings } from '../../inference/served-model.js';
import { type Advice, adviceFor, type ExecutionReport } from './advice.js';
import type { BatchSpeed } from './measure.js';
import { formula, type Layout, type Part, partBytes, payloadLayout, replyLayout, sizesFor } from './payload.js';

export type InspectedModel = ModelReport | FailedReport;

/** A model that cannot be served. */
export interface FailedReport {
  readonly name: string;
  readonly error: { readonly code: string; readonly message: string };
}

export interface ModelReport {
  readonly name: string;
  readonly backend: 'onnx' | 'module' | 'dummy';
  readonly path: string;
  /** Whether config has this model with these settings. */
  readonly isInConfig: boolean;
  /** The number of its folder, or `unversioned`. */
  readonly version: string;
  readonly signature: string;
  /** Its tensors, as in `src/inference/plan.ts`; null: only the model understands its payloads. */
  readonly plan: ModelPlan | null;
  /** Why each request gets a run of its own; null: requests may share one. */
  readonly runsAloneBecause: string | null;
  /** Requests in a run, at the most. */
  readonly maxRows: number;
  readonly batchSize: BatchSizeReport;
  readonly payload: BytesReport;
  readonly reply: BytesReport;
  readonly execution: ExecutionReport;
  /** What loading it added to the resident memory of this process. */
  readonly memoryBytes: number;
  /** Runs of 1, 2, 4 … rows; empty when there is no payload to run the model with. */
  readonly batching: readonly BatchSpeed[];
  /** Settings of the model that would change something. */
  readonly advice: readonly Advice[];
  /** What to put into `models` of config. */
  readonly entry: Readonly<Record<string, unknown>>;
}

/** Why a run has no more requests, and what a run costs. */
export interface BatchSizeReport {
  /** `maxBatchSize` of config. */
  readonly setting: number | 'auto';
  /** Why not more, in words. */
  readonly because: string;
  /** What a run takes beside its rows, and what each row adds, as measured; 0: not known. */
  readonly runMs: number;
  readonly rowMs: number;
}

/** The bytes of a payload or a reply. */
export interface BytesReport {
  /** Null when the number of bytes differs. */
  readonly bytes: number | null;
  /** How many bytes there are, by the dynamic dimensions: `8 + 16 × seq`; null: not known. */
  readonly formula: string | null;
  /** Dynamic dimensions that are left. */
  readonly dynamic: readonly string[];
  /** In order; null: not known. */
  readonly parts: readonly PartReport[] | null;
  /** The one that the model was measured with; null: there is none. */
  readonly example: ExampleReport | null;
}

export interface PartReport {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
  /** Null when it differs. */
  readonly bytes: number | null;
  readonly formula: string;
}

export interface ExampleReport {
  readonly bytes: number;
  /** Sizes of the dynamic dimensions that its length tells; null where a length does not. */
  readonly sizes: Readonly<Record<string, number>> | null;
  /** Bytes of each part, in order; null where they are not known. */
  readonly parts: readonly (number | null)[];
}

export interface Source {
  readonly name: string;
  readonly backend: 'onnx' | 'module' | 'dummy';
  readonly path: string;
  readonly isInConfig: boolean;
  readonly entry: Readonly<Record<string, unknown>>;
}

/** What is read of a model that was loaded. */
export type Loaded = Pick<
  ServedModel,
  | 'plan'
  | 'execution'
  | 'concurrency'
  | 'measured'
  | 'version'
  | 'signature'
  | 'runsAloneBecause'
  | 'inputBytes'
  | 'memoryBytes'
  | 'sample'
  | 'size'
>;

/** @param replyBytes bytes of the last reply; null when there was none */
export function reportOf(
  source: Source,
  served: Loaded,
  settings: Pick<ServingSettings, 'execution' | 'inlineLimitMs' | 'maxBatchSize'>,
  batching: readonly BatchSpeed[],
  replyBytes: number | null,
): ModelReport {
  const { plan, execution: where, measured, version, signature, runsAloneBecause, sample, size } = served;
  const payload = plan === null ? null : payloadLayout(plan);
  const execution: ExecutionReport = {
    where,
    threads: where === 'thread' ? served.concurrency : 0,
    setting: settings.execution,
    inlineLimitMs: settings.inlineLimitMs,
    oneMs: measured?.oneMs ?? null,
    fullMs: measured?.fullMs ?? null,
    fullRows: measured?.fullRows ?? null,
  };
  return {
    ...source,
    version,
    signature,
    plan,
    runsAloneBecause,
    maxRows: size.rows,
    batchSize: {
      setting: settings.maxBatchSize,
      because: size.reason,
      runMs: size.cost.perRunMs,
      rowMs: size.cost.perRowMs,
    },
    payload: bytesOf(payload, served.inputBytes, sample?.length ?? null),
    reply: bytesOf(plan === null ? null : replyLayout(plan), null, replyBytes),
    execution,
    memoryBytes: served.memoryBytes,
    batching,
    advice: adviceFor({ execution, maxBatchSize: settings.maxBatchSize, batching, payload, shared: sharedOf(plan) }),
    entry: source.entry,
  };
}

/** Inputs that the requests of a run share, and that a payload has. */
export const sharedOf = (plan: ModelPlan | null): readonly string[] =>
  (plan?.inputs ?? []).flatMap(({ name, batchAxis, isConstant }) =>
    batchAxis === 'shared' && !isConstant ? [name] : [],
  );

function bytesOf(layout: Layout | null, known: number | null, example: number | null): BytesReport {
  if (layout === null)
    return {
      bytes: known,
      formula: known === null ? null : String(known),
      dynamic: [],
      parts: null,
      example: example === null ? null : { bytes: example, sizes: null, parts: [] },
    };
  return {
    bytes: layout.bytes,
    formula: formula(layout.parts),
    dynamic: layout.dynamic,
    parts: layout.parts.map(partOf),
    example: example === null ? null : exampleOf(layout, example),
  };
}

function exampleOf(layout: Layout, bytes: number): ExampleReport {
  const sizes = layout.bytes === bytes ? {} : sizesFor(layout, bytes);
  return { bytes, sizes, parts: layout.parts.map((part) => (sizes === null ? null : partBytes(part, sizes))) };
}

const partOf = (part: Part): PartReport => ({
  name: part.name,
  dtype: part.dtype,
  dims: part.dims,
  bytes: part.dynamic.length === 0 ? partBytes(part, {}) : null,
  formula: formula([part]),
});
