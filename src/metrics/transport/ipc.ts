// The embedded transport: records travel over the IPC channels that Node opened when it forked.
//
//   worker ── IpcPublisher ──▶ primary: IpcRelay ──▶ aggregator: IpcSource

import {
  type RecordPublisher,
  type RecordSource,
  RecordStore,
  type RecordsSnapshot,
  type RecordUpdate,
} from './transport.js';

/** Sends a message to the other side; rejects when the channel is gone. */
export type SendUpdate = (update: RecordUpdate) => Promise<void>;

export class IpcPublisher implements RecordPublisher {
  readonly #send: SendUpdate;

  constructor(send: SendUpdate) {
    this.#send = send;
  }

  publish(update: RecordUpdate): Promise<void> {
    return this.#send(update);
  }

  async close(): Promise<void> {}
}

/** In the primary: keeps what was published and passes it on; a newly attached aggregator gets all of it first. */
export class IpcRelay implements RecordPublisher {
  readonly #store = new RecordStore();
  #send: SendUpdate | null = null;

  async publish(update: RecordUpdate): Promise<void> {
    this.#store.apply(update);
    await this.#send?.(update);
  }

  async attach(send: SendUpdate): Promise<void> {
    this.#send = send;
    for (const { record } of this.#store.all()) await send({ record, retires: [] });
  }

  detach(): void {
    this.#send = null;
  }

  async close(): Promise<void> {
    this.detach();
  }
}

/** In the aggregator: what has arrived so far. */
export class IpcSource implements RecordSource {
  readonly #store = new RecordStore();

  receive(update: RecordUpdate): void {
    this.#store.apply(update);
  }

  async read(): Promise<RecordsSnapshot> {
    return { records: this.#store.all(), now: Date.now() };
  }

  async close(): Promise<void> {}
}
