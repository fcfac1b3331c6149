// Compaction of the records, by the aggregator that leads: it removes superseded records and replaces those of each run
// that is gone by a single one. Two aggregators may do it at once without harm: Redis checks each step.

import { addCounts, type LiveRecords, noCounts, type Remains } from '../metrics/merge.js';
import {
  type BaseRecord,
  type GoneRecord,
  goneRecordId,
  incarnationOf,
  isFolded,
  type NodeRecord,
  noneFolded,
  type WorkerCounts,
  type WorkerRecord,
} from '../metrics/snapshot.js';
import type { RedisSource } from '../metrics/transport/redis.js';
import type { ClusterState } from './cluster-view.js';

/**
 * Gone runs that keep a record of their own (some KB, with an entry for each worker), which every poll reads: ten times
 * the nodes that one aggregator is designed for. Beyond that the oldest are folded into the base, which is final.
 */
const maxGoneRuns = 1000;
/** Runs that the base record names, so that a late record of one of them is not counted again. */
const maxBaseRuns = 10_000;

type OwnRecord = NodeRecord | WorkerRecord;

/** @param silent runs that have published nothing for so long that they are taken to be gone */
export async function compact(
  source: Pick<RedisSource, 'remove' | 'replace'>,
  { live, now }: Pick<ClusterState, 'live' | 'now'>,
  silent: ReadonlySet<string>,
  maxGone = maxGoneRuns,
): Promise<void> {
  if (live.superseded.length > 0) await source.remove(live.superseded);
  for (const run of silent) {
    const own = [...live.nodes, ...live.workers].filter((record) => record.run === run);
    const [first] = own;
    if (first === undefined) continue;
    const before = live.gone.find(({ record }) => record.run === run) ?? null;
    await source.replace(goneRecord(first, own, before, now), before?.record ?? null, own);
  }
  for (const { record, trimmed, isBack } of live.gone)
    if (trimmed !== null && !(isBack && silent.has(record.run))) await source.replace(trimmed, record, []);
  await foldOldest(source, live, maxGone);
}

/** The one record that replaces all records of a run. */
function goneRecord(
  { node, run }: OwnRecord,
  own: readonly OwnRecord[],
  before: Remains | null,
  now: number,
): GoneRecord {
  const ofNode = own.find((record) => record.kind === 'node');
  const workers = own.filter((record) => record.kind === 'worker');
  const folded = ofNode?.folded ?? before?.record.folded ?? noneFolded;
  const counts: Record<string, WorkerCounts> = { ...before?.workers };
  for (const { id, counts: own } of workers) counts[id] = addCounts(counts[id] ?? noCounts(), own);
  const stillOpen = Object.entries(before?.record.replaces ?? {}).filter(
    ([id]) => !incarnationOf(id).some((incarnation) => isFolded(incarnation, folded)),
  );
  return {
    kind: 'gone',
    id: goneRecordId(node, run),
    node,
    run,
    sequence: Math.max(now, (before?.record.sequence ?? 0) + 1),
    departed: addCounts(ofNode?.departed ?? noCounts(), before?.departed ?? noCounts()),
    workers: counts,
    inFlight: workers.reduce((all, { gauges }) => all + gauges.inFlight, before?.inFlight ?? 0),
    restarts: ofNode === undefined ? (before?.restarts ?? 0) : ofNode.restarts + ofNode.earlierRestarts,
    folded,
    contains: ofNode?.contains ?? before?.record.contains ?? [],
    replaces: Object.fromEntries([...stillOpen, ...own.map(({ id, sequence }) => [id, sequence] as const)]),
  };
}

/** Folds the oldest gone runs into the base when there are too many. */
async function foldOldest(source: Pick<RedisSource, 'replace'>, live: LiveRecords, maxGone: number): Promise<void> {
  const excess = live.gone.length - maxGone;
  if (excess <= 0) return;
  const before = live.base;
  const oldest = live.gone
    .filter(({ isBack }) => !isBack)
    .sort((a, b) => (a.record.run < b.record.run ? -1 : 1)) // they begin with the time of their start
    .slice(0, excess);
  const restarts: Record<string, number> = { ...before?.restarts };
  let counts = before?.counts ?? noCounts();
  for (const gone of oldest) {
    const { node } = gone.record;
    restarts[node] = (restarts[node] ?? 0) + gone.restarts;
    counts = addCounts(counts, gone.counts);
  }
  const runs = oldest.flatMap(({ record }) => [...record.contains.map(({ run }) => run), record.run]);
  const base: BaseRecord = {
    kind: 'base',
    id: 'base',
    sequence: (before?.sequence ?? 0) + 1,
    counts,
    restarts,
    runs: [...(before?.runs ?? []), ...runs].slice(-maxBaseRuns),
  };
  await source.replace(
    base,
    before,
    oldest.map(({ record }) => record),
  );
}
