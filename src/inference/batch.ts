// A batch: rows of bytes from many connections that become one call of the model.
// A row is kept as (source, start, end) into the chunk it arrived in: a model that wants rows side by side copies them
// once, a model that wants payloads gets views, and a model that looks at none pays for none.

/** Told once, when the batch it waits for has its outcome. */
export interface BatchWaiter {
  batchSettled(): void;
}

/** What a model answered. `uniform` is for replies of one size side by side; `rows` for one of its own each. */
export type Replies =
  | {
      readonly kind: 'uniform';
      readonly bytes: Uint8Array;
      /** Bytes of one reply. */
      readonly rowBytes: number;
      /** Distance from one reply to the next in `bytes`: rowBytes, or 0 when all rows share one reply. */
      readonly stride: number;
    }
  | {
      readonly kind: 'rows';
      /** One entry a row, in order; an Error fails that row alone. */
      readonly rows: readonly (Uint8Array | Error)[];
    };

export type BatchOutcome = Replies | { readonly kind: 'failed'; readonly error: Error };

export class Batch {
  rows = 0;
  /** Set when the model has answered or failed. */
  outcome: BatchOutcome | null = null;
  readonly waiters: BatchWaiter[] = [];
  readonly #sources: Buffer[] = [];
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** Adds the row `source[start, end)`; its index is `rows` before the call. */
  add(source: Buffer, start: number, end: number): void {
    this.#sources.push(source);
    this.#starts.push(start);
    this.#ends.push(end);
    this.rows++;
  }

  /** Row `i` as a view, no copy. */
  payload(i: number): Buffer {
    const source = this.#sources[i];
    if (source === undefined) throw new RangeError(`a batch of ${this.rows} rows has no row ${i}`);
    return source.subarray(this.#starts[i], this.#ends[i]);
  }

  /** Copies bytes [from, from + length) of row `i` to `target` at `at`. */
  copyRow(i: number, target: Uint8Array, at: number, from: number, length: number): void {
    const source = this.#sources[i] as Buffer;
    const begin = (this.#starts[i] as number) + from;
    source.copy(target, at, begin, begin + length);
  }

  /** Gives the batch its outcome and tells every waiter, once. */
  settle(outcome: BatchOutcome): void {
    this.outcome = outcome;
    for (const waiter of this.waiters) waiter.batchSettled();
  }
}
