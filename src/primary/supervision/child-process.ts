// One child process of the primary, from its start to its end.
//
//   starting ── becomeReady() ──▶ ready ── end() ──▶ leaving ──▶ gone
//      │ not ready in time         │ silent too long     │ not gone in time
//      └───────────────────────────┴─────────────────────┴──▶ killed ──▶ gone
//
// It is told what to be when it says `hello`, unless it runs other code than the primary: see code.ts. It is asked to
// end by a message, since children ignore the signals that a terminal or PM2 sends to the whole process tree; SIGKILL
// is what follows. Why it was killed is kept for the report of its exit.

import type { ChildProcess, SendHandle } from 'node:child_process';
import { codeChangeMessage, runningCode } from '../../code.js';
import type { Hello } from '../../ipc/messages.js';
import type { RawHandle } from '../../raw-handle.js';
import type { ChildState, MemberView } from '../plan.js';

export interface TimeLimit {
  readonly ms: number;
  /** What is said of a child that exceeds it. */
  readonly exceeded: string;
}

export interface ChildOptions<To> {
  readonly process: ChildProcess;
  /** What it is, in messages. */
  readonly role: 'worker' | 'aggregator';
  readonly incarnation: number;
  /** Its time to be ready; without one it may take for ever. */
  readonly startLimit?: TimeLimit;
  /** The longest time between two signs of life of one that is ready. */
  readonly silenceLimit?: TimeLimit;
  /** What it is told first, when it has said `hello`. */
  boot(hello: Hello): To;
}

/** How often limits are looked at. */
const watchIntervalMs = 100;

/**
 * @template To messages to it
 * @template From what it says, beside `hello`
 */
export class Child<To extends object, From extends { readonly kind: string }> implements MemberView {
  readonly incarnation: number;
  state: ChildState = 'starting';
  /** Why it was killed, if we did it. */
  killedFor: string | null = null;
  /** When it gave its last sign of life, by the monotonic clock. */
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

  /** Which config it has; kinds of children that outlive reloads have one for ever. */
  get revision(): number {
    return 1;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get ageMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Calls `listener` with all that it says beside `hello`. */
  onMessage(listener: (message: From, handle?: RawHandle) => void): void {
    this.#process.on('message', (message: From | Hello, handle: unknown) => {
      if (isHello(message)) this.#boot(message);
      else listener(message, handle as RawHandle | undefined);
    });
  }

  /** Calls `listener` with the limit that it exceeds, again until it is gone; it is killed then. */
  onHang(listener: (reason: string) => void): void {
    this.#onHang = listener;
  }

  /** Calls `listener` with how it ended when it has, and all that it said before has been heard. */
  onExit(listener: (how: string) => void): void {
    this.#process.once('exit', (exitCode: number | null, signal: string | null) => {
      const how = signal ?? `exit code ${exitCode}`;
      if (this.#process.connected) this.#process.once('disconnect', () => listener(how));
      else listener(how);
    });
    // One that could not even begin has no exit.
    this.#process.on('error', ({ message }) => {
      if (this.pid !== undefined) return;
      this.#stopWatching();
      listener(message);
    });
  }

  /** It serves; false when it has been asked to end meanwhile. */
  becomeReady(): boolean {
    if (this.state !== 'starting') return false;
    this.state = 'ready';
    this.heardAt = performance.now();
    return true;
  }

  /** A message to a child that is just dying is lost with it; its exit is what counts then. */
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
   * Asks it to end, and kills it when it takes longer than `graceMs`. One that is still starting serves nobody: it is
   * killed at once.
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

  /** @param reason for the report of its exit, where that is news */
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
    // When this process itself stood still (a machine that slept, a debugger), what children said has not been read
    // yet.
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
