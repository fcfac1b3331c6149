// A model in threads of its own: a run never holds the event loop that sockets live on.
//
//   batch ─▶ packed ─▶ an idle thread (bytes are handed over, not copied) ─▶ model.run ─▶ replies handed back
//
// A thread that crashes fails its batch at once and is replaced, with a growing pause when its successors crash young.
// Plain worker_threads rather than a pool library: one message each way and no queue of its own (the batcher has it),
// which makes a crossing cheaper; `npm run bench` shows by how much.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import '../backends/onnx-telemetry.js'; // a thread cannot do it
import type { Replies, RowSource } from '../batch.js';
import type { ModelSource } from '../catalogue.js';
import { type Model, ThreadCrashedError } from '../model.js';
import type { WarmUp } from '../warm-up.js';
import type { FromThread, ThreadBoot } from './messages.js';
import { packRows, unpackReplies } from './packing.js';

export interface ThreadOptions {
  readonly threads: number;
  readonly maxBatchSize: number;
  /** A run that takes longer hangs: its thread is ended and replaced. */
  readonly hangTimeoutMs: number;
  /** A thread that had been ready has ended by itself. */
  onCrash(error: Error): void;
}

interface Task {
  readonly startedAt: number;
  resolve(replies: Replies): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  readonly readyAt: number;
  task: Task | null;
  /** Why it was ended, when it was. */
  hung: Error | null;
}

type Ready = Extract<FromThread, { kind: 'ready' }>;

const youngMs = 10_000;
const longestPauseMs = 10_000;

export class ThreadedModel implements Model {
  readonly inputBytes: number | null;
  readonly concurrency: number;
  readonly description: string;
  readonly sample = null;
  readonly mayReplyWithInput = false;
  /** How long runs took inside the first thread. */
  readonly warmUp: WarmUp | null;
  readonly #source: ModelSource;
  readonly #options: ThreadOptions;
  readonly #threads = new Set<Thread>();
  readonly #idle: Thread[] = [];
  readonly #waiting: ((thread: Thread) => void)[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #hangWatch: NodeJS.Timeout;
  #youngCrashes = 0;
  #isClosed = false;

  private constructor(source: ModelSource, options: ThreadOptions, ready: Ready) {
    this.#source = source;
    this.#options = options;
    this.inputBytes = ready.inputBytes;
    this.description = ready.description;
    this.warmUp = ready.warmUp;
    this.concurrency = options.threads;
    this.#hangWatch = setInterval(this.#endHanging, options.hangTimeoutMs / 4);
    this.#hangWatch.unref();
  }

  /** Starts the first thread; `addThreads` the others. Rejects with the model's reason when it cannot be loaded. */
  static async open(source: ModelSource, options: ThreadOptions): Promise<ThreadedModel> {
    const { worker, ready } = await startThread(source, options.maxBatchSize);
    const model = new ThreadedModel(source, options, ready);
    model.#adopt(worker);
    return model;
  }

  /** Starts threads until there are as many as wanted. Rejects when one cannot be had; the others run all the same. */
  async addThreads(): Promise<void> {
    const missing = Math.max(0, this.#options.threads - this.#threads.size);
    const started = await Promise.allSettled(
      Array.from({ length: missing }, () => startThread(this.#source, this.#options.maxBatchSize)),
    );
    for (const result of started) {
      if (result.status === 'fulfilled') this.#adopt(result.value.worker);
    }
    const failed = started.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async run(rows: RowSource): Promise<Replies> {
    const thread = this.#idle.pop() ?? (await new Promise<Thread>((resolve) => this.#waiting.push(resolve)));
    const packed = packRows(rows, this.inputBytes);
    const transfer = packed.lengths === null ? [packed.bytes] : [packed.bytes, packed.lengths.buffer];
    return new Promise((resolve, reject) => {
      thread.task = { startedAt: performance.now(), resolve, reject };
      thread.worker.postMessage({ kind: 'run', rows: packed }, transfer);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#hangWatch);
    for (const timer of this.#timers) clearTimeout(timer);
    const threads = [...this.#threads];
    await Promise.all(
      threads.map(async ({ worker }) => {
        const exited = once(worker, 'exit');
        worker.postMessage({ kind: 'close' });
        await exited;
      }),
    );
  }

  readonly #endHanging = (): void => {
    const { hangTimeoutMs } = this.#options;
    for (const thread of this.#threads) {
      if (thread.task === null || performance.now() - thread.task.startedAt < hangTimeoutMs) continue;
      thread.hung = new Error(`its run took longer than ${hangTimeoutMs} ms (cluster.hangTimeoutMs)`);
      void thread.worker.terminate();
    }
  };

  #adopt(worker: Worker): void {
    const thread: Thread = { worker, readyAt: performance.now(), task: null, hung: null };
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
    worker.once('exit', (exitCode) =>
      this.#exited(thread, thread.hung ?? reason ?? new Error(`it exited with code ${exitCode}`)),
    );
    this.#free(thread);
  }

  #free(thread: Thread): void {
    thread.task = null;
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(thread);
    else next(thread);
  }

  #finished(thread: Thread, message: FromThread): void {
    const { task } = thread;
    if (task === null) return;
    this.#free(thread);
    if (message.kind === 'replies') task.resolve(unpackReplies(message.replies));
    else if (message.kind === 'failed') task.reject(new Error(message.message));
  }

  #exited(thread: Thread, reason: Error): void {
    this.#threads.delete(thread);
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.#isClosed) return;
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
        const { worker } = await startThread(this.#source, this.#options.maxBatchSize);
        if (this.#isClosed) await worker.terminate();
        else this.#adopt(worker);
      } catch (error) {
        if (this.#isClosed) return;
        this.#options.onCrash(error instanceof Error ? error : new Error(String(error)));
        this.#youngCrashes++;
        this.#replaceIn(this.#pauseMs());
      }
    }, pauseMs);
    this.#timers.add(timer);
  }
}

/** Resolves when the thread has loaded and warmed up its model; rejects with its reason when it cannot. */
async function startThread(source: ModelSource, maxBatchSize: number): Promise<{ worker: Worker; ready: Ready }> {
  const workerData: ThreadBoot = { source, maxBatchSize };
  const worker = new Worker(new URL('./main.js', import.meta.url), { workerData, name: `model ${source.name}` });
  return new Promise((resolve, reject) => {
    const exited = (exitCode: number): void =>
      reject(new Error(`its thread ended with code ${exitCode} while loading`));
    worker.once('error', reject);
    worker.once('exit', exited);
    worker.once('message', (message: FromThread) => {
      worker.off('error', reject);
      worker.off('exit', exited);
      worker.on('error', () => {}); // whoever adopts it listens to its exit
      if (message.kind === 'ready') resolve({ worker, ready: message });
    });
  });
}
