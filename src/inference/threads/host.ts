// A model in threads of its own: a run never blocks the event loop that serves sockets.
//
//   batch ─▶ packed ─▶ an idle thread (bytes are handed over, not copied) ─▶ model.run ─▶ replies handed back
//
// A thread that crashes fails its batch at once and is replaced, with a growing pause when its successors crash young.
// A thread whose run takes too long fails its batch, is replaced at once, and is left to end by itself: nothing in this
// process can end it while it runs native code. `terminate` would wait for the end of the run, and then abort the whole
// process, since native code finds no JavaScript to return to; so would `process.exit`.
// Plain worker_threads rather than a pool library: one message each way and no second queue (the batcher has one). That
// makes a crossing cheaper; `npm run bench` shows by how much.

import { Worker } from 'node:worker_threads';
import '../backends/onnx-telemetry.js'; // in the main thread, since others cannot turn telemetry off
import { codeChange, codeChangeMessage, runningCode } from '../../code.js';
import { inTime } from '../../in-time.js';
import { toError } from '../../thrown.js';
import type { ModelSource } from '../backends/load.js';
import type { Replies, RowSource } from '../batch.js';
import {
  type KnownModel,
  knownBy,
  type Model,
  ThreadCrashedError,
  ThreadHungError,
  ThreadLostError,
} from '../model.js';
import { acceptance } from '../payload.js';
import type { ModelPlan } from '../plan.js';
import type { CurveLimits, WarmUp } from '../warm-up.js';
import { type FromThread, type ThreadBoot, type ToThread, tells } from './messages.js';
import { packRows, unpackReplies } from './packing.js';

export interface ThreadOptions {
  readonly threads: number;
  readonly maxBatchSize: number;
  /** How far the warm-up of a thread goes. */
  readonly curve: CurveLimits;
  /** A run that takes longer hangs: its requests fail, and its thread is replaced. */
  readonly hangTimeoutMs: number;
  /** How long a thread may take to load the model and warm it up. */
  readonly loadTimeoutMs: number;
  /** How many threads may hang at once and still be replaced. */
  readonly maxHungThreads: number;
  /** A thread that was ready has ended by itself, or could not be replaced. */
  onCrash(error: Error): void;
  /** A run in a thread hangs, or the loading of its model. */
  onHang(error: Error): void;
  /** A thread that hung has ended. */
  onHangOver(): void;
}

interface Task {
  /** What it runs. */
  readonly rows: RowSource;
  /** When the run started, or was last seen to make progress. */
  aliveAt: number;
  /** The lots of rows that the thread had computed at the last check; -1 before the first check. */
  lots: number;
  resolve(replies: Replies): void;
  reject(error: Error): void;
}

interface Started {
  readonly worker: Worker;
  readonly ready: Ready;
  /** What the thread tells about itself; see `tells`. */
  readonly shared: Int32Array;
}

interface Thread extends Pick<Started, 'worker' | 'shared'> {
  readonly readyAt: number;
  task: Task | null;
}

type Ready = Extract<FromThread, { kind: 'ready' }>;

const youngMs = 10_000;
const longestPauseMs = 10_000;
/** How long a thread may take to end on request, before it counts as one that cannot. */
const closeGraceMs = 1000;
/** How long a thread may take to return to its event loop, before its JavaScript is ended. */
const leaveGraceMs = 1000;

export class ThreadedModel implements Model {
  readonly inputBytes: number | null;
  readonly outputBytes: number | null;
  readonly fixedRows: number | null;
  readonly runsAloneBecause: string | null;
  readonly plan: ModelPlan | null;
  readonly concurrency: number;
  readonly description: string;
  readonly sample: Buffer | null;
  readonly accepts?: NonNullable<Model['accepts']>;
  readonly rowsIn?: NonNullable<Model['rowsIn']>;
  readonly mayReplyWithInput = false;
  /** How long runs took in the first thread. */
  readonly warmUp: WarmUp | null;
  readonly #source: ModelSource;
  readonly #options: ThreadOptions;
  readonly #threads = new Set<Thread>();
  readonly #idle: Thread[] = [];
  readonly #waiting: { readonly resolve: (thread: Thread) => void; readonly reject: (error: Error) => void }[] = [];
  /** Threads whose runs, or whose loading, hang: they have been given up. */
  readonly #hung = new Set<Worker>();
  /** How many threads are not replaced, since too many hang. */
  #owed = 0;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #hangDetector: NodeJS.Timeout;
  #youngCrashes = 0;
  #isClosed = false;

  private constructor(source: ModelSource, options: ThreadOptions, ready: Ready) {
    this.#source = source;
    this.#options = options;
    this.inputBytes = ready.model.inputBytes;
    this.outputBytes = ready.model.outputBytes;
    this.fixedRows = ready.model.fixedRows;
    this.runsAloneBecause = ready.model.runsAloneBecause;
    this.plan = ready.model.plan;
    const { sample } = ready.model;
    this.sample = sample === null ? null : Buffer.from(sample.buffer, sample.byteOffset, sample.byteLength);
    if (this.plan !== null) Object.assign(this, acceptance(this.plan, options.maxBatchSize));
    this.description = ready.model.description;
    this.warmUp = ready.warmUp;
    this.concurrency = options.threads;
    this.#hangDetector = setInterval(this.#abandonHanging, options.hangTimeoutMs / 4);
    this.#hangDetector.unref();
    models.add(this);
  }

  /** Starts the first thread; `addThreads` starts the others. Rejects with the reason when the model fails to load. */
  static async open(source: ModelSource, options: ThreadOptions): Promise<ThreadedModel> {
    const started = await startThread(source, options, null);
    const model = new ThreadedModel(source, options, started.ready);
    model.#adopt(started);
    return model;
  }

  /** Starts the threads that are missing. Rejects when one of them cannot start; the others run nevertheless. */
  async addThreads(): Promise<void> {
    const missing = Math.max(0, this.#options.threads - this.#threads.size);
    const started = await Promise.allSettled(
      Array.from({ length: missing }, () => startThread(this.#source, this.#options, knownBy(this))),
    );
    for (const result of started) {
      if (result.status === 'fulfilled') this.#adopt(result.value);
    }
    const failed = started.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async run(rows: RowSource): Promise<Replies> {
    const thread = this.#idle.pop() ?? (await this.#nextFree());
    const packed = packRows(rows, this.inputBytes);
    const transfer = typeof packed.lengths === 'number' ? [packed.bytes] : [packed.bytes, packed.lengths.buffer];
    return new Promise((resolve, reject) => {
      thread.task = { rows, aliveAt: performance.now(), lots: -1, resolve, reject };
      thread.worker.postMessage({ kind: 'run', rows: packed }, transfer);
    });
  }

  #nextFree(): Promise<Thread> {
    if (this.#isWithoutThreads) return Promise.reject(this.#tooManyHang());
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Whether all threads hang and none of them is replaced. */
  get #isWithoutThreads(): boolean {
    return this.#owed >= this.#options.threads;
  }

  #tooManyHang(): Error {
    return new ThreadHungError(
      `${this.#hung.size} threads of the model hang (cluster.maxHungThreads): there is no other until one of them ends`,
    );
  }

  /**
   * The number of threads that are in a run, or hang, or have not ended on request: a process that exits now would wait
   * for them, and then abort.
   */
  get threadsInRuns(): number {
    return [...this.#threads].filter(({ task }) => task !== null || this.#isClosed).length + this.#hung.size;
  }

  /** Resolves when the threads have ended, except those in a run that does not return. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#hangDetector);
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all([...this.#threads].map(({ worker }) => isEnding(worker, closeGraceMs)));
    this.#forgetIfEnded();
  }

  readonly #abandonHanging = (): void => {
    const { hangTimeoutMs } = this.#options;
    for (const thread of this.#threads) {
      const { task, shared } = thread;
      if (task === null) continue;
      const lots = Atomics.load(shared, tells.lots);
      if (lots !== task.lots && task.lots >= 0) task.aliveAt = performance.now();
      task.lots = lots;
      if (performance.now() - task.aliveAt >= hangTimeoutMs) this.#abandon(thread, task);
    }
  };

  /** Fails the requests of a run that hangs. Its thread gets no other run, and ends when this one does. */
  #abandon(thread: Thread, task: Task): void {
    const { hangTimeoutMs } = this.#options;
    const error = new ThreadHungError(
      `a run took longer than ${hangTimeoutMs} ms (cluster.hangTimeoutMs): its thread is left to end by itself`,
    );
    thread.task = null;
    this.#threads.delete(thread);
    task.reject(error);
    this.#leave(thread, error, 0);
  }

  /** Leaves a thread that hangs to end by itself, and replaces it unless too many hang. */
  #leave(thread: Pick<Thread, 'worker' | 'shared'>, error: Error, pauseMs: number): void {
    const mayReplace = this.#hung.size < this.#options.maxHungThreads;
    this.#hung.add(thread.worker);
    this.#options.onHang(error);
    void this.#letEnd(thread);
    if (mayReplace) this.#replaceIn(pauseMs);
    else {
      this.#owed++;
      if (this.#isWithoutThreads) this.#rejectWaiting(this.#tooManyHang());
    }
  }

  #rejectWaiting(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  /** Handles the end of a thread. @returns whether it was one that hung */
  #endedHanging(worker: Worker): boolean {
    if (!this.#hung.delete(worker)) return false;
    this.#options.onHangOver();
    if (this.#isClosed) this.#forgetIfEnded();
    else if (this.#owed > 0) {
      this.#owed--;
      this.#replaceIn(0);
    }
    return true;
  }

  #forgetIfEnded(): void {
    if (this.threadsInRuns === 0) models.delete(this);
  }

  /** JavaScript can be ended from outside, but a thread that has loaded a native library may be running that. */
  async #letEnd({ worker, shared }: Pick<Thread, 'worker' | 'shared'>): Promise<void> {
    if (await isEnding(worker, leaveGraceMs)) return;
    if (Atomics.load(shared, tells.nativeLibraries) === 0) await worker.terminate();
  }

  #adopt({ worker, shared }: Started): void {
    const thread: Thread = { worker, shared, readyAt: performance.now(), task: null };
    this.#threads.add(thread);
    let reason: Error | null = null;
    if (worker.threadId === -1) {
      this.#exited(thread, new Error('it ended before it was used'));
      return;
    }
    worker.on('message', (message: FromThread) => this.#finished(thread, message));
    worker.on('error', (error) => {
      reason = error;
    });
    worker.once('exit', (exitCode) => this.#exited(thread, reason ?? new Error(`it exited with code ${exitCode}`)));
    this.#free(thread);
  }

  #free(thread: Thread): void {
    thread.task = null;
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(thread);
    else next.resolve(thread);
  }

  #finished(thread: Thread, message: FromThread): void {
    const { task } = thread;
    if (task === null) return;
    this.#free(thread);
    if (message.kind !== 'ready' && message.lent !== null) task.rows.giveBack?.(message.lent);
    if (message.kind === 'replies') task.resolve(unpackReplies(message.replies));
    else if (message.kind === 'failed') task.reject(new Error(message.message));
  }

  #exited(thread: Thread, reason: Error): void {
    if (this.#endedHanging(thread.worker)) return;
    this.#threads.delete(thread);
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.#isClosed) {
      this.#forgetIfEnded();
      return;
    }
    const error = new ThreadCrashedError(reason.message, { cause: reason });
    thread.task?.reject(error);
    this.#options.onCrash(error);
    this.#youngCrashes = performance.now() - thread.readyAt < youngMs ? this.#youngCrashes + 1 : 0;
    this.#replaceIn(this.#youngCrashes <= 1 ? 0 : this.#pauseMs());
  }

  #pauseMs(): number {
    return Math.min(100 * 2 ** (this.#youngCrashes - 2), longestPauseMs);
  }

  #replaceIn(pauseMs: number): void {
    const timer = setTimeout(async () => {
      this.#timers.delete(timer);
      try {
        const started = await startThread(this.#source, this.#options, knownBy(this));
        if (this.#isClosed) await isEnding(started.worker, closeGraceMs);
        else this.#adopt(started);
      } catch (error) {
        if (this.#isClosed) {
          if (error instanceof LateThreadError) void this.#letEnd(error.thread);
          return;
        }
        if (this.#threads.size === 0) this.#rejectWaiting(new NoThreadError(toError(error)));
        if (error instanceof LateThreadError) {
          error.thread.worker.once('exit', () => this.#endedHanging(error.thread.worker));
          this.#youngCrashes++;
          this.#leave(error.thread, error, this.#pauseMs());
          return;
        }
        this.#options.onCrash(toError(error));
        // Without a thread the worker would keep connections that it cannot serve: it ends, and others take them.
        if (error instanceof CodeChangedError && this.#threads.size === 0) setImmediate(() => rethrow(error));
        this.#youngCrashes++;
        this.#replaceIn(this.#pauseMs());
      }
    }, pauseMs);
    this.#timers.add(timer);
  }
}

/** The models that have threads. */
const models = new Set<ThreadedModel>();
let startingThreads = 0;

/** How many threads may be in native code, which nothing in this process can end: kill the process, do not exit. */
export function threadsThatCannotEnd(): number {
  return [...models].reduce((sum, { threadsInRuns }) => sum + threadsInRuns, startingThreads);
}

/** Tells a thread to end, which it does between two runs; resolves to whether it has ended within `graceMs`. */
function isEnding(worker: Worker, graceMs: number): Promise<boolean> {
  if (worker.threadId === -1) return Promise.resolve(true);
  const message: ToThread = { kind: 'close' };
  worker.postMessage(message);
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), graceMs);
    worker.once('exit', () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

function rethrow(error: Error): never {
  throw error;
}

/** The last thread was lost, and could not be replaced. */
class NoThreadError extends ThreadLostError {
  constructor(cause: Error) {
    super(`the model has no thread, and none could be started: ${cause.message}`, { cause });
    this.name = 'NoThreadError';
  }
}

/** A thread has not loaded its model in time; it may still do so. */
class LateThreadError extends Error {
  readonly thread: Pick<Started, 'worker' | 'shared'>;

  constructor(thread: Pick<Started, 'worker' | 'shared'>, timeoutMs: number) {
    super(`its thread was not ready in ${timeoutMs / 1000} s (cluster.bootTimeoutSeconds)`);
    this.thread = thread;
  }
}

/** A thread would run other code than this process, so it is not used. */
class CodeChangedError extends Error {
  constructor(change: string) {
    super(`no thread is started from other code: ${change}`);
    this.name = 'CodeChangedError';
  }
}

/** Resolves when the thread has loaded and warmed up its model; rejects with the reason when it cannot. */
async function startThread(
  source: ModelSource,
  { maxBatchSize, curve, loadTimeoutMs }: ThreadOptions,
  known: KnownModel | null,
): Promise<Started> {
  const change = codeChange();
  if (change !== null) throw new CodeChangedError(change);
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workerData: ThreadBoot = { source, known, maxBatchSize, curve, shared };
  const worker = new Worker(new URL('./main.js', import.meta.url), { workerData, name: `model ${source.name}` });
  const isLoaded = readiness(worker);
  startingThreads++;
  const isOver = (): void => void startingThreads--;
  try {
    // A thread that is still loading then is left to end by itself, like a run that hangs.
    const ready = await inTime(isLoaded, loadTimeoutMs, () => new LateThreadError({ worker, shared }, loadTimeoutMs));
    isOver();
    return { worker, ready, shared };
  } catch (error) {
    if (worker.threadId === -1) isOver();
    else {
      worker.once('exit', isOver);
      worker.postMessage({ kind: 'close' } satisfies ToThread);
    }
    throw error;
  }
}

function readiness(worker: Worker): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const exited = (exitCode: number): void =>
      reject(new Error(`its thread ended with code ${exitCode} while loading`));
    worker.once('error', reject);
    worker.once('exit', exited);
    worker.once('message', (message: FromThread) => {
      worker.off('error', reject);
      worker.off('exit', exited);
      worker.on('error', () => {}); // #adopt listens for its exit
      if (message.kind !== 'ready') return;
      if (message.code === runningCode) resolve(message);
      else reject(new CodeChangedError(codeChangeMessage(message.code)));
    });
  });
}
