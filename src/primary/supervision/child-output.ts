// The output of the primary's children. When the log goes to a pipe or a socket, only the primary holds it: if a
// child inherited it, every process that shares it would wait for its reader again (libuv makes it blocking again), and
// so would a library or a model of the user's that prints. So children print to the primary, which always reads, and
// passes on whole lines. Children inherit files and terminals: whether those take a line depends on no other process.

import type { ChildProcess } from 'node:child_process';
import { fstatSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** A line without an end is passed on in pieces of this size. */
const maxLineLength = 64 * 1024;

export interface LineOutput {
  write(line: string): void;
}

export class ChildOutput {
  /** For spawning children. */
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

  /** Resolves when all output of children is passed on, or after this time: another process may hold a pipe open. */
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
