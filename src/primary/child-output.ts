// What the children of the primary print. A pipe or a socket that this server writes its log to is held by the primary
// alone: whoever spawns a child with it makes every process that shares it wait for its reader again (libuv sets it
// back), and a library or a model of the user's that prints would wait as well. So children print to the primary, which
// always reads and passes whole lines on. Files and terminals they inherit: nobody else decides whether those take a
// line.

import type { ChildProcess } from 'node:child_process';
import { fstatSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** A line without an end is passed on in pieces of this size. */
const maxLineLength = 64 * 1024;

export interface LineOutput {
  write(line: string): void;
}

export class ChildOutput {
  /** For spawning them. */
  readonly stdio: ('inherit' | 'pipe' | 'ipc')[];
  readonly #stdout: LineOutput;
  readonly #stderr: LineOutput;
  readonly #open = new Set<Promise<void>>();

  constructor(stdout: LineOutput, stderr: LineOutput) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.stdio = ['inherit', howFor(1), howFor(2), 'ipc'];
  }

  relay({ stdout, stderr }: ChildProcess): void {
    for (const [stream, output] of [
      [stdout, this.#stdout],
      [stderr, this.#stderr],
    ] as const) {
      if (stream === null) continue;
      const isDone = relayLines(stream, output).finally(() => this.#open.delete(isDone));
      this.#open.add(isDone);
    }
  }

  /** Resolves when all that children have printed is passed on, or after this time: somebody may hold it open. */
  async ended(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const isOverdue = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([Promise.all(this.#open), isOverdue]);
    clearTimeout(timer);
  }
}

function howFor(descriptor: 1 | 2): 'inherit' | 'pipe' {
  try {
    const status = fstatSync(descriptor);
    return status.isFIFO() || status.isSocket() ? 'pipe' : 'inherit';
  } catch {
    return 'inherit';
  }
}

function relayLines(stream: Readable, output: LineOutput): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const end = chunk.lastIndexOf('\n') + 1;
    if (end > 0) {
      for (const line of (rest + chunk.slice(0, end)).split(/(?<=\n)/)) output.write(line);
      rest = '';
    }
    rest += chunk.slice(end);
    if (rest.length > maxLineLength) {
      output.write(`${rest}\n`);
      rest = '';
    }
  });
  return new Promise((resolve) => {
    stream.once('error', () => {});
    stream.once('close', () => {
      if (rest !== '') output.write(`${rest}\n`);
      resolve();
    });
  });
}
