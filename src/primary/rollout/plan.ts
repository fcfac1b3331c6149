// Decides what to do about the fleet: a pure function of the workers that exist, the workers that are wanted, and the
// time.
//
//   empty slot ─▶ fork ─▶ ready
//   ready, but of an older revision ─▶ fork a successor beside it ─▶ successor ready ─▶ retire the old one
//
// Slots get their successors one after the other, so that a reload never costs more than one worker's memory, and a
// revision that cannot start is noticed at the first slot.

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
  /** The worker in this place; while it is being replaced, both workers, the older first. */
  readonly members: readonly MemberView[];
  /** No fork before this time. */
  readonly notBefore: number;
  /** How many times in a row a worker ended before it was ready, with no other worker in this slot. */
  readonly bootFailures: number;
}

export interface Wish {
  readonly isStopping: boolean;
  /** How many workers there should be: those in the slots below this number. */
  readonly workers: number;
  /** The revision that they should have. */
  readonly revision: number;
  readonly maxBootFailures: number;
}

export type Action =
  | { readonly kind: 'fork'; readonly slot: number }
  /** The worker leaves, and its connections migrate to others. */
  | { readonly kind: 'retire'; readonly incarnation: number }
  /** The worker leaves, and its connections end. */
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

/** Workers beyond the wish. Those that serve stay until a wanted one does, so that clients are always served. */
function surplus(fleet: readonly SlotView[], { workers }: Wish): readonly MemberView[] {
  const isServed = fleet.some(({ slot, members }) => slot < workers && members.some(({ state }) => state === 'ready'));
  const beyond = fleet.filter(({ slot }) => slot >= workers).flatMap(({ members }) => members.filter(isStaying));
  return isServed ? beyond : beyond.filter(({ state }) => state === 'starting');
}

const isStaying = ({ state }: MemberView): boolean => state !== 'leaving';
const drain = ({ incarnation }: MemberView): Action => ({ kind: 'drain', incarnation });
const retire = ({ incarnation }: MemberView): Action => ({ kind: 'retire', incarnation });

/**
 * Retires workers whose successor in the slot serves, and workers that are starting with an outdated config; a slot
 * where no worker stays gets a new one.
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

/** A worker that lived at least this long has proven itself: its end says nothing about the next one. */
export const youngMs = 10_000;

/**
 * How often to check whether the code on disk is this primary's again, while a child process waits to be started.
 */
export const codeCheckMs = 1000;

/**
 * How long to wait before the next fork of a slot whose last `youngDeaths` workers died young, in milliseconds: the
 * first replacement comes at once, then the delay doubles from 200 ms up to 10 s. Each delay is cut at random by up to
 * half, so that slots do not fork in step.
 * @param random 0 to 1
 */
export function backOffMs(youngDeaths: number, random: number): number {
  if (youngDeaths <= 1) return 0;
  return Math.min(200 * 2 ** (youngDeaths - 2), 10_000) * (1 - random / 2);
}
