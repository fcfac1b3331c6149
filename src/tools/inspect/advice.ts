// Which settings of a model would change what, as measured here.

import { duration } from '../../format.js';
import type { BatchSpeed } from './measure.js';
import type { Layout } from './payload.js';

export interface ExecutionReport {
  readonly where: 'inline' | 'thread';
  /** Threads of each worker; 0 when it runs inline. */
  readonly threads: number;
  /** `execution` of config. */
  readonly setting: 'inline' | 'thread' | 'auto';
  readonly inlineLimitMs: number;
  /** A run of one row, and a full batch, as measured when the model was loaded; null: nothing to measure it with. */
  readonly oneMs: number | null;
  readonly fullMs: number | null;
  readonly fullRows: number | null;
}

export interface Advice {
  /** A setting of the entry in `models`, with a value for it. */
  readonly set: Readonly<Record<string, unknown>>;
  readonly because: string;
}

export interface Findings {
  readonly execution: ExecutionReport;
  /** Of config. */
  readonly maxBatchSize: number | 'auto';
  readonly batching: readonly BatchSpeed[];
  /** Null: only the model understands its payloads. */
  readonly payload: Layout | null;
  /** Names of inputs that the requests of a run share. */
  readonly shared: readonly string[];
}

/** A size that gives this share of the most rows a second is as good as the size that gives the most. */
const asGood = 0.95;
/** Half as many rows may be as quick by chance. */
const wellBelow = 4;

export function adviceFor(findings: Findings): readonly Advice[] {
  const found = [...shapes(findings), ...constants(findings), ...batchSize(findings), ...inline(findings)];
  const reasons = new Map<string, Advice>();
  for (const { set, because } of found) {
    const key = JSON.stringify(set);
    const before = reasons.get(key)?.because;
    reasons.set(key, { set, because: before === undefined ? because : `${before}; ${because}` });
  }
  return [...reasons.values()];
}

/** A length can tell one size, not several. */
function shapes({ payload }: Findings): readonly Advice[] {
  if (payload === null || payload.dynamic.length < 2) return [];
  const inputs = payload.parts
    .filter(({ dynamic }) => dynamic.length > 0)
    .map(({ name, dims }) => [name, { shape: dims.map((dim) => (typeof dim === 'string' ? 1 : dim)) }]);
  return [
    {
      set: { inputs: Object.fromEntries(inputs) },
      because: `the length of a payload tells the size of one dynamic dimension, and there are ${payload.dynamic.length} (${payload.dynamic.join(', ')}): with sizes of yours in place of all but one of them, it tells the shape`,
    },
  ];
}

/** The least size that loses next to nothing, where it is well below the largest that was measured. */
function batchSize({ batching, maxBatchSize }: Findings): readonly Advice[] {
  if (maxBatchSize === 'auto') return [];
  const best = Math.max(0, ...batching.map(({ rowsPerSecond }) => rowsPerSecond));
  const enough = batching.find(({ rowsPerSecond }) => rowsPerSecond >= asGood * best);
  const largest = batching.at(-1);
  if (enough === undefined || largest === undefined || enough.rows * wellBelow > largest.rows) return [];
  const gain =
    largest.rowsPerSecond > enough.rowsPerSecond
      ? `only ${Math.round(100 * (largest.rowsPerSecond / enough.rowsPerSecond - 1))} % more rows/s`
      : 'no more rows/s';
  return [
    {
      set: { maxBatchSize: enough.rows },
      because: `a run of ${enough.rows} takes ${duration(enough.p50Ms)}; one of ${largest.rows} gives ${gain}, and takes ${duration(largest.p50Ms)}`,
    },
  ];
}

/** Nobody wants an event loop to stand still for longer than so many times the limit. */
const bearable = 10;

/** What would keep a model on the event loop that goes into threads by its measured time. */
function inline({ execution, batching }: Findings): readonly Advice[] {
  const { where, setting, inlineLimitMs, fullMs, fullRows, oneMs } = execution;
  if (where === 'inline' || setting !== 'auto' || fullMs === null || fullRows === null || oneMs === null) return [];
  const smaller = batching.findLast(({ rows, p50Ms }) => p50Ms < 0.8 * inlineLimitMs && rows < fullRows);
  const longest = batching.find(({ rows }) => rows === fullRows)?.p50Ms ?? fullMs;
  return [
    ...(smaller === undefined
      ? []
      : [
          { set: { maxBatchSize: smaller.rows }, because: `with runs of ${duration(smaller.p50Ms)} it may run inline` },
        ]),
    ...(longest > bearable * inlineLimitMs
      ? []
      : [
          {
            set: { execution: 'inline' },
            because: `it would run inline, where a full batch holds all connections of a worker for ${duration(longest)}`,
          },
        ]),
  ];
}

/** A value that all requests have need not be sent. */
function constants({ shared }: Findings): readonly Advice[] {
  return shared.map((name) => ({
    set: { constants: { [name]: 1 } },
    because: `config can give ${name} its value (yours in place of 1): then it is no part of a payload, and requests that differed in it share runs`,
  }));
}
