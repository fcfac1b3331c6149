// Where log lines go: to a file descriptor, at once, so that the last line before an exit is not lost. A line that cannot
// be written (disk full, file system read-only, nobody at the other end of the pipe) is lost and counted, and the server
// serves on; the first line that can be written again says how many were.

import { writeSync } from 'node:fs';

export interface LostLines {
  readonly lines: number;
  /** Of the last of them: ENOSPC, EIO, EPIPE … */
  readonly reason: string;
}

export class LogOutput {
  readonly #descriptor: number;
  readonly #describe: (lost: LostLines) => string;
  #lines = 0;
  #reason = '';
  /** A line was cut in the middle. */
  #isMidLine = false;

  /** @param describe makes the line that tells of lost ones, its line feed included */
  constructor(descriptor: number, describe: (lost: LostLines) => string) {
    this.#descriptor = descriptor;
    this.#describe = describe;
  }

  /** Never throws. @param line with its line feed */
  write(line: string): void {
    const lost = this.#lines > 0 ? { lines: this.#lines, reason: this.#reason } : null;
    const text = `${this.#isMidLine ? '\n' : ''}${lost === null ? '' : this.#describe(lost)}${line}`;
    try {
      this.#writeAll(Buffer.from(text));
      if (lost !== null) this.#lines = 0;
    } catch (error) {
      this.#lines++;
      this.#reason = (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }

  #writeAll(bytes: Buffer): void {
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#descriptor, bytes, at);
      this.#isMidLine = false;
    } catch (error) {
      if (at > 0) this.#isMidLine = true;
      throw error;
    }
  }
}
