// What one aggregator does for all: it removes records that others contain, folds nodes that are gone for long into
// the base, and writes the history. If two did it at once, no harm would come of it: each step is checked by Redis.

import { totalCounts } from '../metrics/merge.js';
import type { BaseRecord, MetricsRecord } from '../metrics/snapshot.js';
import type { RedisSource } from '../metrics/transport/redis.js';
import type { ClusterState } from './cluster-view.js';

/** Runs that the base remembers, so that a late record of one is not counted again. */
const maxRuns = 10_000;

/** Replaces records that are older than `retentionMs` by a base that contains them. */
export async function tidy(source: RedisSource, state: ClusterState, retentionMs: number): Promise<void> {
  const { census, ages } = state;
  if (census.covered.length > 0) await source.remove(census.covered.map(({ id }) => id));
  const gone = goneRuns(state, retentionMs);
  if (gone.size === 0) return;
  const isGone = ({ run }: { readonly run: string }): boolean => gone.has(run);
  const nodes = census.nodes.filter(isGone);
  const workers = census.workers.filter(isGone);
  const before = census.base;
  const counts = totalCounts({ base: before, nodes, workers });
  const restarts: Record<string, number> = { ...before?.restarts };
  for (const node of nodes) restarts[node.node] = (restarts[node.node] ?? 0) + node.restarts;
  const base: BaseRecord = {
    kind: 'base',
    id: 'base',
    sequence: (before?.sequence ?? 0) + 1,
    counts,
    restarts,
    runs: [...(before?.runs ?? []), ...gone].slice(-maxRuns),
  };
  const folded: readonly MetricsRecord[] = [...nodes, ...workers].filter(({ id }) => ages.has(id));
  await source.fold(base, before, folded);
}

/** Runs of nodes of which nothing has been heard for so long. */
function goneRuns({ census, ages }: ClusterState, retentionMs: number): ReadonlySet<string> {
  const youngest = new Map<string, number>();
  for (const { id, run } of [...census.nodes, ...census.workers]) {
    youngest.set(run, Math.min(youngest.get(run) ?? Number.POSITIVE_INFINITY, ages.get(id) ?? 0));
  }
  return new Set([...youngest].filter(([, ageMs]) => ageMs > retentionMs).map(([run]) => run));
}
