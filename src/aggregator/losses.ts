// What was lost with workers that died: requests in flight and open connections. Told from how the counts of each node
// grow, so that what had been lost before an aggregator began, or before a node was cut off, is no news.

import type { Census } from '../metrics/merge.js';
import type { WorkerCounts } from '../metrics/snapshot.js';

export interface Loss {
  readonly node: string;
  readonly requests: number;
  readonly connections: number;
}

type Lost = Omit<Loss, 'node'>;

/** A loss is a reason to look for so long. */
export const lossWindowMs = 60_000;

export class Losses {
  /** By record. */
  #before = new Map<string, Lost>();
  #recent: (Loss & { readonly at: number })[] = [];

  /** @returns what was lost since the last call. @param now milliseconds of the monotonic clock */
  note({ nodes, workers }: Pick<Census, 'nodes' | 'workers'>, now: number): readonly Loss[] {
    const seen = new Map<string, Lost>();
    const losses: Loss[] = [];
    const all = [...nodes.map(({ id, node, departed }) => ({ id, node, counts: departed })), ...workers];
    for (const { id, node, counts } of all) {
      const lost = lostOf(counts);
      const before = this.#before.get(id) ?? lost;
      const requests = Math.max(0, lost.requests - before.requests);
      const connections = Math.max(0, lost.connections - before.connections);
      if (requests + connections > 0) losses.push({ node, requests, connections });
      seen.set(id, lost);
    }
    this.#before = seen;
    this.#recent = [...this.#recent, ...losses.map((loss) => ({ ...loss, at: now }))].filter(
      ({ at }) => at > now - lossWindowMs,
    );
    return losses;
  }

  /** What was lost in the last minute. */
  get recent(): Lost {
    return this.#recent.reduce(
      (sum, { requests, connections }) => ({
        requests: sum.requests + requests,
        connections: sum.connections + connections,
      }),
      { requests: 0, connections: 0 },
    );
  }
}

export function lostOf({ closedByDeath, models }: WorkerCounts): Lost {
  const requests = Object.values(models).reduce((sum, { lost }) => sum + (lost ?? 0), 0);
  return { requests, connections: closedByDeath ?? 0 };
}

/** In words: `160 requests and 3 connections`. */
export function lossText({ requests, connections }: Lost): string {
  const parts = [
    [requests, requests === 1 ? 'request' : 'requests'],
    [connections, connections === 1 ? 'connection' : 'connections'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${count} ${what}`)
    .join(' and ');
}
