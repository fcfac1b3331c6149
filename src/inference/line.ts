// The requests that wait in turn, when more waits than is quickly done. The rows of a client are cut into turns; the first
// turns of all clients make a round, their second ones the next:
//
//   round 7:  A B C D       a client that comes now gets its turn at the end of the round that is being served,
//   round 8:  A   C         before the second turns of all others
//   round 9:  A
//
// So a request waits for one turn of each other client for each turn of its own client, however much another has sent.
// A client that has had its turn in a round gets the next one in the next round, however often it comes back.

import { Batch } from './batch.js';
import type { Lease } from './lease.js';
import type { Queued } from './queued.js';
import type { Memory } from './rows.js';

interface Round {
  readonly line: { rows: number };
  readonly number: number;
  readonly turns: Turn[];
  /** Index of its next turn. */
  next: number;
  /** Rows that wait in it. */
  rows: number;
}

/** Rows of one client that are taken together. */
class Turn implements Queued {
  readonly batch: Batch;
  readonly closedBy = 'turn';
  readonly client: object;
  readonly lease: Lease;
  readonly round: Round;
  readonly maxRows: number;

  constructor(client: object, lease: Lease, round: Round, maxRows: number, memory?: Memory) {
    this.client = client;
    this.lease = lease;
    this.round = round;
    this.maxRows = maxRows;
    this.batch = new Batch(lease.model.inputBytes, memory);
    this.batch.place = this;
  }

  /** Rows of it wait no longer. */
  left(rows: number): void {
    this.round.rows -= rows;
    this.round.line.rows -= rows;
  }
}

export class Line {
  /** Rows that wait. */
  rows = 0;
  /** Turns that wait. */
  #waiting = 0;
  /** The one that is being served, and those after it. */
  #rounds: Round[] = [];
  #lastNumber = 0;
  /** The last turn of each client in these rounds. */
  readonly #last = new Map<object, Turn>();

  get isEmpty(): boolean {
    return this.#waiting === 0;
  }

  /** Counts a row that joins the last turn of its client; null when that has no room, and another must begin. */
  join(client: object, lease: Lease): Batch | null {
    const last = this.#last.get(client);
    if (last === undefined || last.lease !== lease || last.batch.isTaken || last.batch.rows >= last.maxRows)
      return null;
    last.round.rows++;
    this.rows++;
    return last.batch;
  }

  /**
   * Begins another turn of a client, with the row that comes next.
   * @param maxRows the most rows that it may have
   * @param memory holds them as long as it is large enough
   */
  begin(client: object, lease: Lease, maxRows: number, memory?: Memory): Batch {
    const at = this.#nextRound(client);
    if (at === this.#rounds.length)
      this.#rounds.push({ line: this, number: ++this.#lastNumber, turns: [], next: 0, rows: 0 });
    const round = this.#rounds[at] as Round;
    const turn = new Turn(client, lease, round, maxRows, memory);
    lease.take();
    round.turns.push(turn);
    round.rows++;
    this.rows++;
    this.#last.set(client, turn);
    this.#waiting++;
    return turn.batch;
  }

  /** Rows that go before another turn of this client. */
  rowsBefore(client: object): number {
    const at = this.#nextRound(client);
    let rows = 0;
    for (let i = 0; i <= at; i++) rows += this.#rounds[i]?.rows ?? 0;
    return rows;
  }

  /** Takes the turn that is next; null when nobody waits. */
  take(): Queued | null {
    while (this.#waiting > 0) {
      const round = this.#rounds[0] as Round;
      const turn = round.turns[round.next];
      if (turn === undefined) this.#endRound(round);
      else {
        round.next++;
        if (!turn.batch.isTaken) return this.#taken(turn);
      }
    }
    return null;
  }

  /** Takes out the turns in which nothing has arrived since then. */
  takeOlder(arrivedBefore: number): readonly Queued[] {
    const old = this.#rounds
      .flatMap(({ turns, next }) => turns.slice(next))
      .filter(({ batch }) => !batch.isTaken && batch.newestAt < arrivedBefore);
    for (const turn of old) this.#taken(turn);
    return old;
  }

  /** Index of the round in which a client gets its next turn. */
  #nextRound(client: object): number {
    const last = this.#last.get(client);
    const [current] = this.#rounds;
    return last === undefined || current === undefined ? 0 : Math.max(0, last.round.number + 1 - current.number);
  }

  #taken(turn: Turn): Turn {
    turn.batch.isTaken = true;
    turn.left(turn.batch.liveRows);
    this.#waiting--;
    if (this.#waiting === 0) {
      this.#rounds = [];
      this.#last.clear();
    }
    return turn;
  }

  #endRound(round: Round): void {
    for (const turn of round.turns) if (this.#last.get(turn.client) === turn) this.#last.delete(turn.client);
    this.#rounds.shift();
  }
}
