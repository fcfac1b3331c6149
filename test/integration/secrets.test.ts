// Where a secret is while a server runs: the tests search the memory of its processes, which a core dump, a crash
// report or the code of a model could show.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { expect } from 'chai';
import { aggregatorOf, endProcesses, workersOf } from '../support/processes.js';
import { TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';

/** In two parts, so that the tests do not find this text. */
const token = ['correct', 'horse', 'battery', 'staple'].join('-');
const secret = ['open', 'sesame', 'of', 'many', 'thieves'].join('-');

/** Whether `text` is anywhere in the memory that this process can write. Throws where it may not be read. */
function holds(pid: number, text: string): boolean {
  const wanted = Buffer.from(text);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    return writableRanges(pid).some(({ from, bytes }) => {
      const chunk = Buffer.alloc(bytes);
      try {
        return chunk.subarray(0, readSync(memory, chunk, 0, bytes, from)).includes(wanted);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EIO') return false; // freed meanwhile, or a guard page
        throw error;
      }
    });
  } finally {
    closeSync(memory);
  }
}

function writableRanges(pid: number): readonly { readonly from: number; readonly bytes: number }[] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, from = '', to = ''] = /^([\da-f]+)-([\da-f]+) rw/.exec(line) ?? [];
      const start = Number.parseInt(from, 16);
      const bytes = Number.parseInt(to, 16) - start;
      // Larger ranges are only reservations.
      return bytes > 0 && bytes <= 2 ** 28 && Number.isSafeInteger(start) ? [{ from: start, bytes }] : [];
    });
}

describe('the token of the metrics', () => {
  afterEach(endProcesses);

  it('is in the memory of who checks it, and of no worker', async function () {
    if (process.platform !== 'linux') skip(this, 'the memory of a process is read from /proc');
    const env = { MODEL: 'dummy', WORKERS: '1', HTTP_TOKEN: token, SHARED_SECRET: secret };
    const server = new TestServer({ env });
    await server.event('ready');
    const [worker = 0] = workersOf(server);
    try {
      expect(holds(server.pid, token), 'primary').to.equal(true);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES')
        skip(this, 'this user may not read the memory of a process (ptrace_scope)');
      throw error;
    }
    expect(holds(aggregatorOf(server), token), 'aggregator').to.equal(true);
    expect(holds(worker, secret), 'the secret that a worker needs').to.equal(true);
    expect(holds(worker, token), 'worker').to.equal(false);
    expect(holds(aggregatorOf(server), secret), 'the secret of TCP clients').to.equal(false);
    const environment = readFileSync(`/proc/${worker}/environ`, 'latin1');
    expect(environment).to.include('PATH=').and.not.include(token).and.not.include(secret);
  });
});
