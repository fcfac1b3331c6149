// What to do about the fleet, as a pure function: the workers there are, the workers there should be, the time it is.

export type SlotState = 'empty' | 'starting' | 'ready' | 'draining';

/** What the primary knows of one place in the fleet. Times are milliseconds of a clock that never goes back. */
export interface SlotView {
  readonly slot: number;
  readonly state: SlotState;
  /** Not to fork before. */
  readonly notBefore: number;
  /** How often in a row a worker in this slot ended before it was ready. */
  readonly bootFailures: number;
}

export interface Wish {
  readonly isStopping: boolean;
  /** How many workers there should be: those in the slots below this number. */
  readonly workers: number;
  readonly maxBootFailures: number;
}

export type Action =
  | { readonly kind: 'fork'; readonly slot: number }
  | { readonly kind: 'drain'; readonly slot: number }
  /** Nothing to do now; look again at this time. */
  | { readonly kind: 'wait'; readonly until: number }
  | { readonly kind: 'give-up'; readonly slot: number };

export function plan(fleet: readonly SlotView[], wish: Wish, now: number): readonly Action[] {
  if (wish.isStopping) {
    return fleet
      .filter(({ state }) => state === 'starting' || state === 'ready')
      .map(({ slot }) => ({ kind: 'drain', slot }));
  }
  const wanted = fleet.filter(({ slot }) => slot < wish.workers);
  const hopeless = wanted.find(({ bootFailures }) => bootFailures >= wish.maxBootFailures);
  if (hopeless !== undefined) return [{ kind: 'give-up', slot: hopeless.slot }];
  const missing = wanted
    .filter(({ state }) => state === 'empty')
    .map(
      ({ slot, notBefore }): Action => (notBefore <= now ? { kind: 'fork', slot } : { kind: 'wait', until: notBefore }),
    );
  const surplus = fleet
    .filter(({ slot, state }) => slot >= wish.workers && (state === 'starting' || state === 'ready'))
    .map(({ slot }): Action => ({ kind: 'drain', slot }));
  return [...missing, ...surplus];
}

/** A worker that lived this long has proven itself: its end says nothing about the next one. */
export const youngMs = 10_000;

/**
 * How long to wait before the next fork of a slot whose last `youngDeaths` workers died young, in milliseconds: the
 * first replacement comes at once, then 200 ms doubling up to 10 s, each cut by up to half at random so that slots do
 * not beat in time.
 * @param random 0 to 1
 */
export function backOffMs(youngDeaths: number, random: number): number {
  if (youngDeaths <= 1) return 0;
  return Math.min(200 * 2 ** (youngDeaths - 2), 10_000) * (1 - random / 2);
}
