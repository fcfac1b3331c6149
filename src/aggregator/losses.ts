// What was lost with workers that died in the last minute: requests in flight and open connections. Only growth that
// this aggregator has observed is news: not what was lost before it started, nor what a node brings back that could not
// be reached, nor what one record takes over from another.

import type { LiveRecords } from '../metrics/merge.js';
import type { NodeRecord, WorkerCounts, WorkerRecord } from '../metrics/snapshot.js';

export interface Loss {
  readonly node: string;
  readonly requests: number;
  readonly connections: number;
}

type Lost = Omit<Loss, 'node'>;

/** How long a loss is reported. */
const lossWindowMs = 60_000;
/** Runs of nodes that are remembered. */
const maxRuns = 10_000;

export class Losses {
  /** By record. */
  #before = new Map<string, Lost>();
  readonly #runs = new Set<string>();
  /** The most that was ever known to be lost. */
  #highest: Lost = { requests: 0, connections: 0 };
  #recent: (Loss & { readonly at: number })[] = [];

  /**
   * @param total what the cluster has counted; @param now milliseconds of the monotonic clock
   * @returns what was lost since the last call
   */
  note({ nodes, workers }: Pick<LiveRecords, 'nodes' | 'workers'>, total: WorkerCounts, now: number): readonly Loss[] {
    const records = [...nodes, ...workers].map((record) => ({ record, lost: lostOf(countsOf(record)) }));
    const known = lostOf(total);
    const left = minus(known, this.#highest);
    for (const { record, lost } of records) if (this.#isStranger(record)) subtract(left, lost);
    const losses = records.flatMap(({ record, lost }) => {
      if (this.#isStranger(record)) return [];
      const { requests, connections } = minus(lost, this.#before.get(record.id) ?? this.#baseline(record, lost));
      const own = { requests: Math.min(requests, left.requests), connections: Math.min(connections, left.connections) };
      subtract(left, own);
      return own.requests + own.connections > 0 ? [{ node: record.node, ...own }] : [];
    });
    this.#remember(records, known);
    this.#recent = [...this.#recent, ...losses.map((loss) => ({ ...loss, at: now }))].filter(
      ({ at }) => at > now - lossWindowMs,
    );
    return losses;
  }

  /** What was lost in the last minute. */
  get recent(): Lost {
    const sum = { requests: 0, connections: 0 };
    for (const { requests, connections } of this.#recent) {
      sum.requests += requests;
      sum.connections += connections;
    }
    return sum;
  }

  /** Whether nothing was known of what this record counts: then its losses are old. */
  #isStranger(record: NodeRecord | WorkerRecord): boolean {
    return !this.#runs.has(record.run) && !this.#continues(record);
  }

  /** The primary was killed, and the next run of its node has taken over its counts. */
  #continues(record: NodeRecord | WorkerRecord): boolean {
    return record.kind === 'node' && record.contains.some(({ run }) => this.#runs.has(run));
  }

  /** What a record that was not there before stood at, when what it counts was known from others. */
  #baseline(record: NodeRecord | WorkerRecord, lost: Lost): Lost {
    return this.#continues(record) ? { requests: 0, connections: 0 } : lost;
  }

  #remember(
    records: readonly { readonly record: NodeRecord | WorkerRecord; readonly lost: Lost }[],
    known: Lost,
  ): void {
    this.#before = new Map(records.map(({ record, lost }) => [record.id, lost]));
    for (const { record } of records) this.#runs.add(record.run);
    for (const run of this.#runs) {
      if (this.#runs.size <= maxRuns) break;
      this.#runs.delete(run);
    }
    this.#highest = {
      requests: Math.max(this.#highest.requests, known.requests),
      connections: Math.max(this.#highest.connections, known.connections),
    };
  }
}

const countsOf = (record: NodeRecord | WorkerRecord): WorkerCounts =>
  record.kind === 'node' ? record.departed : record.counts;

function minus(a: Lost, b: Lost): { requests: number; connections: number } {
  return { requests: Math.max(0, a.requests - b.requests), connections: Math.max(0, a.connections - b.connections) };
}

function subtract(from: { requests: number; connections: number }, by: Lost): void {
  from.requests = Math.max(0, from.requests - by.requests);
  from.connections = Math.max(0, from.connections - by.connections);
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
