// One place in a fleet: the child in it, for a while its successor as well, and how often its children have failed.

import { backOffMs, type MemberView, type SlotView, youngMs } from '../rollout/plan.js';

/** What matters about a member when it dies. */
export interface SlotMember extends MemberView {
  readonly ageMs: number;
}

export class Slot<Member extends SlotMember> implements SlotView {
  readonly slot: number;
  readonly members: Member[] = [];
  /** Whether a child has been ready in this slot since the slot was last wanted. */
  hasServed = false;
  /** Why the last child that failed to start failed. */
  lastFailure = '';
  #notBefore = 0;
  #youngDeaths = 0;
  #bootFailures = 0;

  constructor(slot: number) {
    this.slot = slot;
  }

  get notBefore(): number {
    return this.#notBefore;
  }

  get bootFailures(): number {
    return this.#bootFailures;
  }

  add(member: Member): void {
    this.members.push(member);
    this.lastFailure = '';
  }

  remove(member: Member): void {
    this.members.splice(this.members.indexOf(member), 1);
  }

  noteReady(): void {
    this.hasServed = true;
    this.#bootFailures = 0;
  }

  /** A child of this slot has died; returns in how many milliseconds another one may start. */
  noteDeath({ state, ageMs }: SlotMember): number {
    if (state === 'starting' && this.members.length === 0) this.#bootFailures++;
    this.#youngDeaths = ageMs < youngMs ? this.#youngDeaths + 1 : 0;
    const delayMs = backOffMs(this.#youngDeaths, Math.random());
    this.#notBefore = performance.now() + delayMs;
    return delayMs;
  }
}
