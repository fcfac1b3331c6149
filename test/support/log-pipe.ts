// The pipe of a shell that a server logs to: it holds 64 KB, and a writer to a full pipe waits for the reader, which
// can stop reading here.

import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './folder.js';

const readIntervalMs = 10;

export class LogPipe {
  /** The end that is written to; blocking, like a shell's. */
  readonly descriptor: number;
  readonly #reading: number;
  readonly #filling: number;
  readonly #timer: NodeJS.Timeout;
  readonly #chunk = Buffer.alloc(1 << 16);
  readonly #onLine: (line: string) => void;
  #unfinished = '';
  #isStalled = false;

  constructor(onLine: (line: string) => void) {
    const path = join(temporaryFolder(), 'log');
    const { status, stderr } = spawnSync('mkfifo', [path], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`mkfifo ${path}: ${stderr}`);
    this.#onLine = onLine;
    this.#reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#filling = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    this.descriptor = openSync(path, constants.O_WRONLY);
    this.#timer = setInterval(() => this.#read(), readIntervalMs);
  }

  /** Stops reading, and fills the pipe until there is no room for a line. */
  stall(): void {
    this.#isStalled = true;
    for (const line of [`${'.'.repeat(4095)}\n`, '.\n', '\n']) while (tryTo(() => writeSync(this.#filling, line)) > 0);
  }

  resume(): void {
    this.#isStalled = false;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const descriptor of [this.#reading, this.#filling, this.descriptor]) closeSync(descriptor);
  }

  #read(): void {
    for (;;) {
      const length = this.#isStalled ? 0 : tryTo(() => readSync(this.#reading, this.#chunk));
      if (length === 0) return;
      const lines = (this.#unfinished + this.#chunk.toString('latin1', 0, length)).split('\n');
      this.#unfinished = lines.pop() ?? '';
      for (const line of lines) if (!/^\.*$/.test(line)) this.#onLine(line);
    }
  }
}

/** 0 when the pipe is full, or empty. */
function tryTo(act: () => number): number {
  try {
    return act();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}
