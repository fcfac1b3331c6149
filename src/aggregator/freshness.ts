// How fresh a record is, by its age on one clock (that of Redis, or this process's own): clocks of other machines play
// no part, so that skew between them does no harm.

export type FreshnessState = 'up' | 'stale' | 'down';

/** A record that should be renewed every `publishIntervalMs` is late when it is this old. */
export const lateMs = (publishIntervalMs: number): number => Math.max(1000, 4 * publishIntervalMs);

/** The state of a process that renews its record every `publishIntervalMs`, and did so `ageMs` ago. */
export function freshness(ageMs: number, publishIntervalMs: number): FreshnessState {
  if (ageMs >= Math.max(5000, 20 * publishIntervalMs)) return 'down';
  return ageMs >= lateMs(publishIntervalMs) ? 'stale' : 'up';
}

/** How long a process that stopped in order or was replaced stays listed; its counts always stay in the totals. */
export const listedMs = 60_000;

/** After this time without a successful poll, the last snapshot is too old to be trusted. */
export function pollOverdueMs(publishIntervalMs: number): number {
  return Math.max(2000, 8 * publishIntervalMs);
}
