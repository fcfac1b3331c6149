// Why requests and connections were refused, or failed, in the whole cluster: each worker tells for some seconds what is
// new, and each aggregator remembers the last ones.

import type { PublishedRejection, WorkerRecord } from '../metrics/snapshot.js';
import type { RecordsSnapshot } from '../metrics/transport/transport.js';

/** An entry of GET /api/rejections. */
export interface ClusterRejection {
  /** Seconds since the epoch, by the aggregator's clock. */
  readonly t: number;
  readonly node: string;
  /** The slot of the worker. */
  readonly worker: number;
  readonly pid: number;
  /** The client's address; empty: unknown. */
  readonly client: string;
  /** `frames`, `calls`, `http`, `grpc`; `tcp` and `tls` for a connection that has not come so far. */
  readonly protocol: string;
  readonly model: string;
  readonly reason: string;
  readonly detail: string;
}

/** What the answer to one request has room for, and a person patience. */
const kept = 200;

interface Known {
  readonly uptimeMs: number;
  readonly rejection: ClusterRejection;
}

export class RejectionHistory {
  /** Of each worker, the last one of each client, protocol, model and reason. */
  readonly #known = new Map<string, Known>();
  #newestFirst: readonly ClusterRejection[] = [];

  get newestFirst(): readonly ClusterRejection[] {
    return this.#newestFirst;
  }

  note({ records, now }: RecordsSnapshot): void {
    let isNews = false;
    for (const { record, ageMs } of records) {
      if (record.kind !== 'worker') continue;
      for (const rejection of record.gauges.rejections ?? []) {
        const key = keyOf(record, rejection);
        if ((this.#known.get(key)?.uptimeMs ?? -1) >= rejection.uptimeMs) continue;
        // Clocks of machines differ, but their pace does not.
        const t = now - ageMs - (record.uptimeMs - rejection.uptimeMs);
        this.#known.set(key, { uptimeMs: rejection.uptimeMs, rejection: shown(record, rejection, t) });
        isNews = true;
      }
    }
    if (isNews) this.#sort();
  }

  #sort(): void {
    const sorted = [...this.#known].toSorted(([, a], [, b]) => b.rejection.t - a.rejection.t);
    for (const [key] of sorted.splice(kept)) this.#known.delete(key);
    this.#newestFirst = sorted.map(([, { rejection }]) => rejection);
  }
}

const keyOf = ({ id }: WorkerRecord, { client, protocol, model, reason }: PublishedRejection): string =>
  JSON.stringify([id, client, protocol, model, reason]);

function shown(
  { node, slot, pid }: WorkerRecord,
  { client, protocol, model, reason, detail }: PublishedRejection,
  t: number,
): ClusterRejection {
  return { t: Math.round(t) / 1000, node, worker: slot, pid, client, protocol, model, reason, detail };
}
