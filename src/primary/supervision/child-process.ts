// One child process of the primary, from its start to its end.
//
//   starting ── becomeReady() ──▶ ready ── end() ──▶ leaving ──▶ gone
//      │ not ready in time         │ silent too long     │ not gone in time
//      └───────────────────────────┴─────────────────────┴──▶ killed ──▶ gone
//
// When a child says `hello`, it is sent its boot message, unless it runs other code than the primary (see code.ts). A
// message asks it to end, since children ignore the signals that a terminal or PM2 sends to the whole process tree;
// SIGKILL follows when it takes too long. The reason for a kill is kept for the exit report.

import type { ChildProcess, SendHandle } from 'node:child_process';
import { codeChangeMessage, runningCode } from '../../code.js';
import type { Hello } from '../../ipc/messages.js';
import type { RawHandle } from '../../net/raw-handle.js';
import type { ChildState, MemberView } from '../rollout/plan.js';

export interface TimeLimit {
  readonly ms: number;
  /** The reason that is given when a child exceeds it. */
  readonly exceeded: string;
}

export interface ChildOptions<To> {
  readonly process: ChildProcess;
  /** Its name in messages. */
  readonly role: 'worker' | 'aggregator';
  readonly incarnation: number;
  /** How long it may take to be ready; without one, there is no limit. */
  readonly startLimit?: TimeLimit;
  /** The longest time between two signs of life once it is ready. */
  readonly silenceLimit?: TimeLimit;
  /** The first message to it, when it has said `hello`. */
  boot(hello: Hello): To;
}

/** How often limits are checked. */
const watchIntervalMs = 100;

/**
 * @template To messages to it
 * @template From messages from it, except `hello`
 */
export class Child<To extends object, From extends { readonly kind: string }> implements MemberView {
  readonly incarnation: number;
  state: ChildState = 'starting';
  /** Why the primary killed it, if it did. */
  killedFor: string | null = null;
  /** When its last sign of life came, by the monotonic clock. */
  heardAt = performance.now();
  readonly #process: ChildProcess;
  readonly #options: ChildOptions<To>;
  readonly #startedAt = performance.now();
  #onHang: (reason: string) => void = () => {};
  #watch: NodeJS.Timeout | undefined;
  #watchedAt = performance.now();
  #overdue: NodeJS.Timeout | undefined;

  constructor(options: ChildOptions<To>) {
    this.#options = options;
    this.#process = options.process;
    this.incarnation = options.incarnation;
    if (options.startLimit || options.silenceLimit) this.#watch = setInterval(this.#checkLimits, watchIntervalMs);
    this.#process.once('exit', this.#stopWatching);
  }

  /** The revision of its config; it never changes for kinds of children that outlive reloads. */
  get revision(): number {
    return 1;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get ageMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Calls `listener` with every message except `hello`. */
  onMessage(listener: (message: From, handle?: RawHandle) => void): void {
    this.#process.on('message', (message: From | Hello, handle: unknown) => {
      if (isHello(message)) this.#boot(message);
      else listener(message, handle as RawHandle | undefined);
    });
  }

  /** Calls `listener` with the limit that the child exceeds, before each attempt to kill it, until it is gone. */
  onHang(listener: (reason: string) => void): void {
    this.#onHang = listener;
  }

  /** Calls `listener` with how the child ended, once all its messages have been received. */
  onExit(listener: (how: string) => void): void {
    this.#process.once('exit', (exitCode: number | null, signal: string | null) => {
      const how = signal ?? `exit code ${exitCode}`;
      if (this.#process.connected) this.#process.once('disconnect', () => listener(how));
      else listener(how);
    });
    // A child that could not even be started has no exit.
    this.#process.on('error', ({ message }) => {
      if (this.pid !== undefined) return;
      this.#stopWatching();
      listener(message);
    });
  }

  /** The child serves from now on; false when it has been asked to end meanwhile. */
  becomeReady(): boolean {
    if (this.state !== 'starting') return false;
    this.state = 'ready';
    this.heardAt = performance.now();
    return true;
  }

  /** A message to a dying child is lost with it; its exit is what counts then. */
  send(message: To, handle?: RawHandle): void {
    this.sent(message, handle).catch(() => {});
  }

  /** Resolves when the message has left; rejects when the channel is closed. */
  sent(message: To, handle?: RawHandle): Promise<void> {
    return new Promise((resolve, reject) => {
      const onSent = (error: Error | null): void => (error === null ? resolve() : reject(error));
      if (this.#process.connected) this.#process.send(message, handle as unknown as SendHandle, undefined, onSent);
      else reject(new Error(`${this.#options.role} ${this.pid} is gone`));
    });
  }

  /**
   * Asks it to end, and kills it when that takes longer than `graceMs`. A child that is still starting serves no client
   * and is killed at once.
   */
  end(request: To, graceMs: number, beforeKill: () => void = () => {}): void {
    const wasReady = this.state === 'ready';
    this.state = 'leaving';
    if (!wasReady) {
      this.kill();
      return;
    }
    this.send(request);
    this.#overdue = setTimeout(() => {
      beforeKill();
      this.kill();
    }, graceMs);
  }

  /** @param reason for the exit report; null when it need not be reported */
  kill(reason: string | null = null): void {
    this.killedFor ??= reason;
    this.#process.kill('SIGKILL');
  }

  #boot(hello: Hello): void {
    if (hello.code === runningCode) this.send(this.#options.boot(hello));
    else this.kill(codeChangeMessage(hello.code));
  }

  readonly #stopWatching = (): void => {
    clearInterval(this.#watch);
    clearTimeout(this.#overdue);
  };

  readonly #checkLimits = (): void => {
    const now = performance.now();
    // When this process itself was stopped (by sleep of the machine or a debugger), messages of children have not been
    // read yet.
    const wasHere = now - this.#watchedAt < 2 * watchIntervalMs;
    this.#watchedAt = now;
    const limit = wasHere ? this.#exceeded(now) : undefined;
    if (limit === undefined) return;
    this.#onHang(limit.exceeded);
    this.kill(limit.exceeded);
  };

  #exceeded(now: number): TimeLimit | undefined {
    const { startLimit, silenceLimit } = this.#options;
    if (this.state === 'starting' && startLimit && now - this.#startedAt > startLimit.ms) return startLimit;
    if (this.state === 'ready' && silenceLimit && now - this.heardAt > silenceLimit.ms) return silenceLimit;
    return undefined;
  }
}

function isHello(message: { readonly kind: string }): message is Hello {
  return message.kind === 'hello';
}
