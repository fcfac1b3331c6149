// Limits the memory that all connections of a worker hold together: bytes of incomplete frames, of requests that wait,
// and of replies that clients have not taken. Beyond the limit, connections that hold much are not read from until
// there is room; what they send stays in the kernel, and TCP slows them down. No request fails because of it.
//
// Half of the limit is a reserve: each connection may always hold its even share of it, so that a client that asks
// little is served however many ask too much. The others wait in a line. Since everything that is held may be
// incomplete frames, a few connections of the line at a time may read beyond the limit for a short turn, so that one
// frame after the other becomes complete.
//
//   used < limit ─▶ read          used ≥ limit, more than its share ─▶ line ─▶ room, or a turn ─▶ read

/** A client that holds memory. */
export interface Holder {
  /** It may read again: there is room, or it has a turn. */
  resumeReading(): void;
  /** Its turn is over; a holder that read nothing in its turn and has been slow for long does not get another. */
  endTurn(): void;
}

/** The most that a connection reads at once. */
const readBytes = 64 * 1024;
/** How many may read beyond the limit at the same time. */
export const maxTurns = 4;
const turnMs = 100;

export class MemoryBudget {
  readonly #maxBytes: number;
  #used = 0;
  #holders = 0;
  readonly #line = new Set<Holder>();
  readonly #turns = new Set<Holder>();
  #timer: NodeJS.Timeout | undefined;
  #isWaking = false;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes held now. */
  get used(): number {
    return this.#used;
  }

  join(): void {
    this.#holders++;
  }

  leave(holder: Holder, held: number): void {
    this.#holders--;
    this.#line.delete(holder);
    this.#turns.delete(holder);
    this.#change(-held);
  }

  /**
   * `holder` now holds `held` bytes, and held `before` until now; returns whether it may read on. If not,
   * `resumeReading` is called when it may.
   */
  hold(holder: Holder, held: number, before: number): boolean {
    this.#change(held - before);
    if (this.#used < this.#maxBytes || held < this.#share) {
      if (this.#line.size > 0) this.#line.delete(holder);
      if (this.#turns.size > 0) this.#turns.delete(holder);
      return true;
    }
    if (this.#turns.has(holder)) return true;
    this.#line.add(holder);
    this.#timer ??= setInterval(this.#nextTurns, turnMs);
    return false;
  }

  /** Bytes that `holder` may add to what it holds: up to the limit, or to its share, or a little in its turn. */
  room(holder: Holder, held: number): number {
    const room = Math.max(this.#maxBytes - this.#used, this.#share - held);
    return this.#turns.has(holder) ? Math.max(room, readBytes) : room;
  }

  get #share(): number {
    return this.#maxBytes / 2 / this.#holders;
  }

  #change(bytes: number): void {
    this.#used += bytes;
    if (bytes >= 0 || this.#line.size === 0 || this.#used >= this.#maxBytes || this.#isWaking) return;
    this.#isWaking = true;
    setImmediate(this.#wake);
  }

  /** Resumes as many of the line as there is room for, in order. */
  readonly #wake = (): void => {
    this.#isWaking = false;
    const room = Math.ceil((this.#maxBytes - this.#used) / readBytes);
    for (const holder of [...this.#line].slice(0, Math.max(0, room))) {
      this.#line.delete(holder);
      holder.resumeReading();
    }
  };

  readonly #nextTurns = (): void => {
    const over = [...this.#turns];
    this.#turns.clear();
    for (const holder of over) holder.endTurn();
    for (const holder of [...this.#line].slice(0, maxTurns)) {
      this.#line.delete(holder);
      this.#turns.add(holder);
      holder.resumeReading();
    }
    if (this.#line.size > 0 || this.#turns.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  };
}
