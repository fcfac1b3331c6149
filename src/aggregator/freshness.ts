// How fresh a record is, by its age on one clock (that of Redis, or this process's own): clocks of other machines play
// no part, so that skew between them does no harm.

export type FreshnessState = 'up' | 'stale' | 'down';

/** Who renews a record every `publishIntervalMs` and has not done so for this time is late. */
export const lateMs = (publishIntervalMs: number): number => Math.max(1000, 4 * publishIntervalMs);

/** The state of whoever renews its record every `publishIntervalMs` and did so `ageMs` ago. */
export function freshness(ageMs: number, publishIntervalMs: number): FreshnessState {
  if (ageMs >= Math.max(5000, 20 * publishIntervalMs)) return 'down';
  return ageMs >= lateMs(publishIntervalMs) ? 'stale' : 'up';
}

/** Who has stopped in order, or was replaced, is listed for so long; its counts stay in the totals for ever. */
export const listedMs = 60_000;

/** After this time without a look at the records, what was seen last is too old to be trusted. */
export function lookOverdueMs(publishIntervalMs: number): number {
  return Math.max(2000, 8 * publishIntervalMs);
}
