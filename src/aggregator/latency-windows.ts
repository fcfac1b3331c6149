// The reply times of the last seconds, from cumulative histograms: what has been added since an earlier poll.

import { type SparseHistogram, since } from '../metrics/histogram.js';

interface Past {
  readonly at: number;
  readonly latency: SparseHistogram;
}

/** One poll a second is kept of the last seconds, and one in five seconds of what is older. */
const stepMs = 1000;
const fineMs = 11_000;
const coarseStepMs = 5000;
const longestMs = 60_000;

export class LatencyWindows {
  readonly #pasts = new Map<string, Past[]>();

  /** Notes the histogram of `key` at `now` (ms); returns a function that gives its last `windowMs`, at most 60 s. */
  note(key: string, latency: SparseHistogram, now: number): (windowMs: number) => SparseHistogram {
    const pasts = this.#pasts.get(key) ?? [];
    this.#pasts.set(key, pasts);
    while (pasts.length > 1 && (pasts[1] as Past).at <= now - longestMs) pasts.shift();
    const last = pasts.at(-1);
    if (last === undefined || now - last.at >= stepMs) {
      pasts.push({ at: now, latency });
      thin(pasts, now);
    }
    return (windowMs) => since(latency, before(pasts, now - windowMs));
  }

  /** Drops the keys in `gone`. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const key of this.#pasts.keys()) if (!keys.has(key)) this.#pasts.delete(key);
  }
}

/** Of two old polls that are close together, the later one is dropped. */
function thin(pasts: Past[], now: number): void {
  for (let i = 1; i < pasts.length - 1; i++) {
    const { at } = pasts[i] as Past;
    if (at > now - fineMs) return;
    if ((pasts[i + 1] as Past).at - (pasts[i - 1] as Past).at <= coarseStepMs) {
      pasts.splice(i, 1);
      return;
    }
  }
}

/**
 * The newest poll that is at least this old, or else the oldest: what was before the first poll belongs to no window.
 */
function before(pasts: readonly Past[], at: number): SparseHistogram {
  let found = pasts[0] as Past;
  for (const past of pasts) {
    if (past.at > at) break;
    found = past;
  }
  return found.latency;
}
