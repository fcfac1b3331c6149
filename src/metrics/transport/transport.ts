// How records get from those who count to those who show. Two ways keep this contract: Node's IPC (embedded) and Redis.

import type { MetricsRecord } from '../snapshot.js';

/** One atomic step: whoever reads sees either all of it or nothing. */
export interface RecordUpdate {
  readonly record: MetricsRecord;
  /** Ids of records that `record` replaces: they disappear with the same step. */
  readonly retires: readonly string[];
}

export interface RecordPublisher {
  /** Rejects when the record could not be handed on. Nothing is queued: the next one says it all again. */
  publish(update: RecordUpdate): Promise<void>;
  close(): Promise<void>;
}

export interface RecordSource {
  /** The newest version of every record of the cluster. Rejects when they cannot be read. */
  read(): Promise<readonly MetricsRecord[]>;
  close(): Promise<void>;
}

/** The newest version of each record, in memory. */
export class RecordStore {
  readonly #records = new Map<string, MetricsRecord>();

  apply({ record, retires }: RecordUpdate): void {
    const known = this.#records.get(record.id);
    if (known === undefined || known.sequence < record.sequence) this.#records.set(record.id, record);
    for (const id of retires) this.#records.delete(id);
  }

  all(): readonly MetricsRecord[] {
    return [...this.#records.values()];
  }
}
