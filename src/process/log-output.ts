// Writes log lines to a file descriptor, at once, so that the last line before an exit is not lost. The server never
// waits for the reader. When a pipe, a socket or a terminal takes no more, lines wait in memory, up to a limit; beyond
// it, or when a line cannot be written (disk full, read-only file system, no reader), lines are lost and counted. As
// soon as lines can be written again, one of them reports how many were lost.
//
//   write ─▶ descriptor ─ takes no more ─▶ waiting (bounded) ─ full ─▶ lost, counted

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';

export interface LostLines {
  readonly lines: number;
  /** Why the last of them was lost: ENOSPC, EIO, EPIPE … */
  readonly reason: string;
}

export interface LogOutputOptions {
  /** Makes the line that reports lost lines, including its line feed. */
  describe(lost: LostLines): string;
  /** Bytes of lines that may wait for a reader. */
  readonly maxWaitingBytes?: number;
}

/** How soon a write is tried again after the reader took no more. */
const retryMs = 20;
/** The same, where nothing else can run meanwhile. */
const exitRetryMs = 2;
const slowReader = 'EAGAIN: what reads the log does not keep up';

export class LogOutput {
  readonly #descriptor: number;
  readonly #describe: (lost: LostLines) => string;
  readonly #maxWaitingBytes: number;
  /** Whole lines, except the first: its beginning may have been written. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #lines = 0;
  #reason = '';
  #uncounted = 0;
  /** A line was cut in the middle. */
  #isMidLine = false;

  /** @param descriptor one that never makes a writer wait: see `neverWaiting` */
  constructor(descriptor: number, { describe, maxWaitingBytes = 0 }: LogOutputOptions) {
    this.#descriptor = descriptor;
    this.#describe = describe;
    this.#maxWaitingBytes = maxWaitingBytes;
  }

  /**
   * Never throws and never waits.
   * @param line including its line feed
   */
  write(line: string): void {
    if (this.#waiting.length === 0) this.#writeNow(line);
    else this.#keep(Buffer.from(line));
  }

  /** Lines lost since the last call. */
  takeLost(): number {
    const lost = this.#uncounted;
    this.#uncounted = 0;
    return lost;
  }

  /** Tries for up to `timeoutMs` to write the waiting lines. For the end of a process: nothing else runs meanwhile. */
  flush(timeoutMs: number): void {
    const until = performance.now() + timeoutMs;
    for (;;) {
      this.#writeWaiting();
      if (this.#waiting.length === 0 || performance.now() > until) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, exitRetryMs);
    }
  }

  #writeNow(line: string): void {
    const lost = this.#lines > 0 ? { lines: this.#lines, reason: this.#reason } : null;
    const bytes = Buffer.from(`${this.#isMidLine ? '\n' : ''}${lost === null ? '' : this.#describe(lost)}${line}`);
    const written = this.#tryWrite(bytes, 0);
    // A line whose beginning has been written is finished later: another line in the middle of it would garble both.
    const isKept = written.error === null || written.at > 0 || bytes.length <= this.#maxWaitingBytes;
    if (written.error !== null && (written.error !== 'EAGAIN' || !isKept)) {
      this.#lose(line === '' ? 0 : 1, written.error);
      if (written.error === 'EAGAIN') this.#tellLater();
      return;
    }
    if (lost !== null) this.#lines = 0;
    if (written.at < bytes.length) this.#wait(bytes.subarray(written.at));
  }

  /** Reports a line that was too long to wait as soon as the reader continues, whether another line follows or not. */
  #tellLater(): void {
    const notice = Buffer.from(
      `${this.#isMidLine ? '\n' : ''}${this.#describe({ lines: this.#lines, reason: this.#reason })}`,
    );
    if (this.#lines === 0 || notice.length > this.#maxWaitingBytes) return;
    this.#lines = 0;
    this.#wait(notice);
  }

  #keep(line: Buffer): void {
    // After the first lost line all lines are lost until the reader has caught up, so that the line that reports them
    // stands where they are missing.
    if (this.#lines > 0 || this.#waitingBytes + line.length > this.#maxWaitingBytes) this.#lose(1, 'EAGAIN');
    else this.#wait(line);
  }

  #wait(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#timer ??= setTimeout(() => this.#retry(), retryMs).unref();
  }

  #retry(): void {
    this.#timer = undefined;
    this.#writeWaiting();
    if (this.#waiting.length > 0) this.#timer ??= setTimeout(() => this.#retry(), retryMs).unref();
  }

  /**
   * Writes line by line: the kernel takes a short line as a whole or not at all, even when other processes write too.
   */
  #writeWaiting(): void {
    if (this.#waiting.length === 0) return;
    let done = 0;
    let hasFailed = false;
    for (const bytes of this.#waiting) {
      const { at, error } = this.#tryWrite(bytes, 0);
      this.#waitingBytes -= at;
      if (at < bytes.length) this.#waiting[done] = bytes.subarray(at);
      if (error === 'EAGAIN') break;
      if (error !== null) {
        this.#lose(this.#waiting.length - done, error);
        done = this.#waiting.length;
        this.#waitingBytes = 0;
        hasFailed = true;
        break;
      }
      done++;
    }
    this.#waiting.splice(0, done);
    if (this.#waiting.length === 0 && this.#lines > 0 && !hasFailed) this.#writeNow('');
  }

  #lose(lines: number, reason: string): void {
    this.#lines += lines;
    this.#uncounted += lines;
    this.#reason = reason === 'EAGAIN' ? slowReader : reason;
  }

  #tryWrite(bytes: Buffer, from: number): { readonly at: number; readonly error: string | null } {
    let at = from;
    try {
      while (at < bytes.length) at += writeSync(this.#descriptor, bytes, at);
      this.#isMidLine = false;
      return { at, error: null };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      if (at > 0) this.#isMidLine = true;
      return { at, error: code };
    }
  }
}

/**
 * A descriptor of stdout or stderr that answers EAGAIN instead of making its writer wait.
 *
 * Whether writers wait is a property of the open file, which all processes that inherited it share, and spawning a
 * child with it makes them wait again. So pipes and terminals are opened once more, for this process alone. A socket
 * cannot be opened again: Node sets the property there (and resets it at the exit), and no child of ours may inherit
 * it.
 */
export function neverWaiting(descriptor: 1 | 2): number {
  try {
    const status = fstatSync(descriptor);
    const isPipe = status.isFIFO();
    if (process.platform === 'linux' && (isPipe || isatty(descriptor))) {
      const again = openAgain(descriptor);
      if (again !== null) return again;
    }
    // The getter creates the stream, which makes the descriptor non-blocking.
    if (isPipe || status.isSocket()) void (descriptor === 1 ? process.stdout : process.stderr);
  } catch {
    // The descriptor is closed: writing each line fails with the error.
  }
  return descriptor;
}

/** Null where it cannot be opened again: a pipe of another user, a terminal that is gone, no /proc. */
function openAgain(descriptor: number): number | null {
  try {
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    const again = openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    const [here, there] = [fstatSync(descriptor), fstatSync(again)];
    if (here.ino === there.ino && here.dev === there.dev) return again;
    closeSync(again);
  } catch {}
  return null;
}
