// What to do about the fleet, as a pure function: the workers there are, the workers there should be, the time it is.
//
//   empty slot ─▶ fork ─▶ ready
//   ready, but of an older revision ─▶ fork a successor beside it ─▶ successor ready ─▶ retire the old one
//
// One slot after the other gets its successor, so that a reload never costs more than one worker's memory and a
// revision that cannot start is noticed at the first.

export type ChildState = 'starting' | 'ready' | 'leaving';

/** One worker process. */
export interface MemberView {
  readonly incarnation: number;
  readonly state: ChildState;
  /** Which reload of the config it was started with. */
  readonly revision: number;
}

/** What the primary knows of one place in the fleet. Times are milliseconds of a clock that never goes back. */
export interface SlotView {
  readonly slot: number;
  /** The worker of this place; while one follows another, both, the older first. */
  readonly members: readonly MemberView[];
  /** Not to fork before. */
  readonly notBefore: number;
  /** How often in a row a worker in this slot ended before it was ready, with nobody else to serve in it. */
  readonly bootFailures: number;
}

export interface Wish {
  readonly isStopping: boolean;
  /** How many workers there should be: those in the slots below this number. */
  readonly workers: number;
  /** Which config they should have. */
  readonly revision: number;
  readonly maxBootFailures: number;
}

export type Action =
  | { readonly kind: 'fork'; readonly slot: number }
  /** The worker goes, and its connections move to others. */
  | { readonly kind: 'retire'; readonly incarnation: number }
  /** The worker goes, and its connections end. */
  | { readonly kind: 'drain'; readonly incarnation: number }
  /** Nothing to do now; look again at this time. */
  | { readonly kind: 'wait'; readonly until: number }
  | { readonly kind: 'give-up'; readonly slot: number };

export function plan(fleet: readonly SlotView[], wish: Wish, now: number): readonly Action[] {
  if (wish.isStopping) return fleet.flatMap(({ members }) => members.filter(isStaying).map(drain));
  const wanted = fleet.filter(({ slot }) => slot < wish.workers);
  const hopeless = wanted.find(({ bootFailures }) => bootFailures >= wish.maxBootFailures);
  if (hopeless !== undefined) return [{ kind: 'give-up', slot: hopeless.slot }];
  const actions = wanted.flatMap((slot) => replaceOutdated(slot, wish, now));
  return [...actions, ...surplus(fleet, wish).map(retire), ...nextSuccessor(wanted, wish, now)];
}

/** Workers beyond the wish. Those that serve stay until one of the others does: the port is never closed for it. */
function surplus(fleet: readonly SlotView[], { workers }: Wish): readonly MemberView[] {
  const isServed = fleet.some(({ slot, members }) => slot < workers && members.some(({ state }) => state === 'ready'));
  const beyond = fleet.filter(({ slot }) => slot >= workers).flatMap(({ members }) => members.filter(isStaying));
  return isServed ? beyond : beyond.filter(({ state }) => state === 'starting');
}

const isStaying = ({ state }: MemberView): boolean => state !== 'leaving';
const drain = ({ incarnation }: MemberView): Action => ({ kind: 'drain', incarnation });
const retire = ({ incarnation }: MemberView): Action => ({ kind: 'retire', incarnation });

/**
 * Ends workers that another one of their slot has taken the place of, or that start with a config nobody wants any
 * more; a slot where nobody stays gets another.
 */
function replaceOutdated(slot: SlotView, { revision }: Wish, now: number): readonly Action[] {
  const staying = slot.members.filter(isStaying);
  const hasSuccessor = staying.some((member) => member.state === 'ready' && member.revision === revision);
  const outdated = staying
    .filter((member) => member.revision !== revision)
    .filter(({ state }) => state === 'starting' || hasSuccessor);
  return [...outdated.map(retire), ...(staying.length > outdated.length ? [] : [forkWhenDue(slot, now)])];
}

/** The next slot whose worker is of another revision, when all others have settled. */
function nextSuccessor(wanted: readonly SlotView[], { revision }: Wish, now: number): readonly Action[] {
  const isSettled = wanted.every(({ members }) => members.length === 1 && members[0]?.state === 'ready');
  const next = isSettled ? wanted.find(({ members }) => members[0]?.revision !== revision) : undefined;
  return next === undefined ? [] : [forkWhenDue(next, now)];
}

function forkWhenDue({ slot, notBefore }: SlotView, now: number): Action {
  return notBefore <= now ? { kind: 'fork', slot } : { kind: 'wait', until: notBefore };
}

/** A worker that lived this long has proven itself: its end says nothing about the next one. */
export const youngMs = 10_000;

/**
 * How often to look whether the code on disk is that of this primary again, while a process of it waits to be started.
 */
export const codeCheckMs = 1000;

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
