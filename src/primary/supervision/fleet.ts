// Keeps the wanted number of children running: asks `plan` what to do whenever something has changed, and does it. The
// owner of a kind of children (workers, the aggregator) defines how one is started and asked to end, and what its exit
// means.

import { codeChange } from '../../code.js';
import { type Action, codeCheckMs, plan, type Wish } from '../rollout/plan.js';
import type { Child } from './child-process.js';
import { Slot, type SlotMember } from './slot.js';

export interface FleetOptions<Member extends SlotMember> {
  /** The wanted fleet. */
  wish(): Omit<Wish, 'isStopping'>;
  start(slot: Slot<Member>, incarnation: number): Member;
  /** @param how `retire`: others take over its work */
  end(member: Member, how: 'retire' | 'drain'): void;
  /** A member is gone. Unless the fleet is stopping, the owner sets how long its slot waits (`Slot.noteDeath`). */
  onExit(member: Member, slot: Slot<Member>, how: string): void;
  /** Nothing is left to do, and all members are ready. */
  onSettled?(): void;
  /** A member is not started, since it would run other code. Checked again every second, with a call each time. */
  onCodeChanged(change: string, slot: Slot<Member>, isNews: boolean): void;
  /** Too many members of this slot in a row have ended before they were ready. The fleet has stopped. */
  onGiveUp(slot: Slot<Member>): void;
  /** The message for when the code on disk is no longer the running one; null while it is. */
  readonly codeChange?: () => string | null;
}

export class Fleet<Member extends Child<object, { readonly kind: string }>> {
  readonly slots: Slot<Member>[] = [];
  readonly #options: FleetOptions<Member>;
  readonly #codeChange: () => string | null;
  #incarnations = 0;
  #isStopping = false;
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | null = null;
  /** Why the last start that was due was refused; null when it was allowed. */
  #refusedFor: string | null = null;

  constructor(options: FleetOptions<Member>) {
    this.#options = options;
    this.#codeChange = options.codeChange ?? codeChange;
  }

  get members(): readonly Member[] {
    return this.slots.flatMap(({ members }) => members);
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Does what is due; must be called when the wish or a member has changed. */
  reconcile(): void {
    clearTimeout(this.#timer);
    const wish = { ...this.#options.wish(), isStopping: this.#isStopping };
    while (this.slots.length < wish.workers) this.slots.push(new Slot(this.slots.length));
    const now = performance.now();
    const actions = plan(this.slots, wish, now);
    let refused = 0;
    for (const action of actions) if (!this.#do(action)) refused++;
    if (actions.length === refused && this.members.every(({ state }) => state === 'ready')) this.#options.onSettled?.();
    const times = actions.flatMap((action) => (action.kind === 'wait' ? action.until : []));
    if (refused > 0) times.push(now + codeCheckMs);
    if (times.length > 0) this.#timer = setTimeout(() => this.reconcile(), Math.min(...times) - now);
  }

  /** Starts no more members. */
  stop(): void {
    this.#isStopping = true;
    clearTimeout(this.#timer);
  }

  /** Asks every member to end; resolves when the last one is gone. */
  async drain(): Promise<void> {
    this.stop();
    if (this.members.length === 0) return;
    const isEmpty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.reconcile();
    await isEmpty;
  }

  /** Ends every member at once. */
  kill(): void {
    this.stop();
    for (const member of this.members) member.kill();
  }

  /** Returns whether it was done. */
  #do(action: Action): boolean {
    switch (action.kind) {
      case 'fork':
        return this.#startUnlessChanged(this.slots[action.slot] as Slot<Member>);
      case 'retire':
      case 'drain':
        this.#options.end(this.#member(action.incarnation), action.kind);
        break;
      case 'give-up':
        this.stop();
        this.#options.onGiveUp(this.slots[action.slot] as Slot<Member>);
        break;
      case 'wait':
    }
    return true;
  }

  #member(incarnation: number): Member {
    return this.members.find((member) => member.incarnation === incarnation) as Member;
  }

  /** No child is started from other code than this primary's (see code.ts). Running children keep serving. */
  #startUnlessChanged(slot: Slot<Member>): boolean {
    if (this.#isStopping) return false;
    const change = this.#codeChange();
    const isNews = this.#refusedFor !== change;
    this.#refusedFor = change;
    if (change === null) this.#start(slot);
    else this.#options.onCodeChanged(change, slot, isNews);
    return change === null;
  }

  #start(slot: Slot<Member>): void {
    const member = this.#options.start(slot, ++this.#incarnations);
    slot.add(member);
    member.onExit((how) => {
      slot.remove(member);
      this.#options.onExit(member, slot, how);
      if (this.members.length === 0) this.#onEmpty?.();
      if (!this.#isStopping) this.reconcile();
    });
  }
}
