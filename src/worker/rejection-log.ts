// Tells operators why requests and connections were refused, or failed: as lines of the log (debug), and to the
// aggregators, which show the last ones of the whole cluster. It counts nothing, as the counters do that.
//
// It is a sample. Of each reason a few are taken at once, and then one a second: a flood of refusals, which is when
// there is the least time, costs a comparison each. Nobody's payload is in it; addresses of clients are.

import { clientErrors } from '../errors.js';
import type { PublishedRejection } from '../metrics/snapshot.js';
import type { Log } from '../process/log.js';

export type RejectionReason = keyof typeof clientErrors;

export interface Rejection {
  /** The client's address; empty: unknown. */
  readonly client: string;
  /** `frames`, `calls`, `http`, `grpc`; `tcp` and `tls` for a connection that has not come so far. */
  readonly protocol: string;
  /** As the request named it; empty: it is not known. */
  readonly model: string;
  readonly reason: RejectionReason;
  /** For people: what was expected, and what came. No payload. */
  readonly detail: string;
}

/** A connection of which nothing was read. */
export function connectionRefused(client: string, reason: RejectionReason): Rejection {
  return { client, protocol: 'tcp', model: '', reason, detail: clientErrors[reason].meaning };
}

export interface RejectionLogOptions {
  /** How many are kept, each for another client, protocol, model or reason; 0: none, and the log gets no lines. */
  readonly kept: number;
  readonly publishIntervalMs: number;
  readonly log: Pick<Log, 'debug'>;
}

/** Taken at once of each reason, so that several clients show, and then one in so many milliseconds. */
const burst = 5;
const everyMs = 1000;
/** How long a new one is part of each record: a record may be lost, or an aggregator late. */
const leastTravelMs = 10_000;
const travelIntervals = 4;

/** Texts are cut to so many characters: they are of clients and of models, and travel in each record. */
const longest = { client: 64, protocol: 16, model: 100, detail: 200 } as const;

/** How much of a reason may still be taken. */
interface Allowance {
  /** When the next would be due if one came each `everyMs`; by the monotonic clock. */
  due: number;
  /** Requests since the last one that was taken. */
  leftOut: number;
}

export class RejectionLog {
  readonly #kept: number;
  readonly #travelMs: number;
  readonly #log: Pick<Log, 'debug'>;
  readonly #allowances = new Map<string, Allowance>();
  /** The oldest first. */
  readonly #last = new Map<string, PublishedRejection>();

  constructor({ kept, publishIntervalMs, log }: RejectionLogOptions) {
    this.#kept = kept;
    this.#travelMs = Math.max(leastTravelMs, travelIntervals * publishIntervalMs);
    this.#log = log;
  }

  /**
   * Whether one of this reason would be taken now; if not, remembers how many were left out. Who has much to build for
   * `note` asks first.
   * @param now by the monotonic clock
   */
  isOpen(reason: RejectionReason, now: number, requests = 1): boolean {
    const allowance = this.#allowances.get(reason);
    if (allowance !== undefined && now < allowance.due - (burst - 1) * everyMs) {
      allowance.leftOut += requests;
      return false;
    }
    return this.#kept > 0;
  }

  /** Takes it, unless too many of its reason came before; of the same kind, only the last is kept. */
  note({ reason, ...texts }: Rejection, now = performance.now()): void {
    if (!this.isOpen(reason, now)) return;
    const allowance = this.#allowances.get(reason) ?? { due: 0, leftOut: 0 };
    const { leftOut } = allowance;
    this.#allowances.set(reason, { due: Math.max(allowance.due, now) + everyMs, leftOut: 0 });
    const client = plain(texts.client, longest.client);
    const protocol = plain(texts.protocol, longest.protocol);
    const model = plain(texts.model, longest.model);
    const detail = plain(texts.detail, longest.detail);
    const rejection = { client, protocol, model, reason, detail };
    const kind = JSON.stringify([client, protocol, model, reason]);
    this.#last.delete(kind);
    this.#last.set(kind, { ...rejection, uptimeMs: Math.round(now) });
    if (this.#last.size > this.#kept) this.#last.delete(this.#last.keys().next().value as string);
    this.#log.debug({ ...rejection, leftOut }, 'refused');
  }

  /** Of one client, for requests that go to `model` unless they name another. */
  of(client: string, protocol: string, model = ''): ClientRejections {
    return new ClientRejections(this, client, protocol, model);
  }

  /** Those that aggregators may not have yet, the oldest first; undefined when there are none. */
  recent(now = performance.now()): readonly PublishedRejection[] | undefined {
    if (this.#last.size === 0) return undefined;
    const recent = [...this.#last.values()].filter(({ uptimeMs }) => now - uptimeMs < this.#travelMs);
    return recent.length === 0 ? undefined : recent;
  }
}

/** What one client is refused. */
export class ClientRejections {
  readonly #log: RejectionLog;
  readonly #client: string;
  readonly #protocol: string;
  readonly #model: string;

  /** Called by `RejectionLog.of`. */
  constructor(log: RejectionLog, client: string, protocol: string, model: string) {
    this.#log = log;
    this.#client = client;
    this.#protocol = protocol;
    this.#model = model;
  }

  /** As of the log. */
  isOpen(reason: RejectionReason, now: number, requests: number): boolean {
    return this.#log.isOpen(reason, now, requests);
  }

  note(reason: RejectionReason, detail: string, model = this.#model): void {
    this.#log.note({ client: this.#client, protocol: this.#protocol, model, reason, detail });
  }
}

/** One line, and not too long: it may come from anybody. */
function plain(text: string, most: number): string {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return cut.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '·');
}
