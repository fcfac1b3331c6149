import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { LogOutput } from '#src/process/log-output.js';
import { temporaryFolder } from '../../support/folder.js';
import { root } from '../../support/processes.js';

describe('log output', () => {
  it('writes each line at once', () => {
    const file = join(temporaryFolder(), 'log');
    const descriptor = openSync(file, 'w');
    const output = new LogOutput(descriptor, { describe: () => 'lost\n' });
    output.write('a\n');
    expect(readFileSync(file, 'utf8')).to.equal('a\n');
    output.write('b\n');
    expect(readFileSync(file, 'utf8')).to.equal('a\nb\n');
    closeSync(descriptor);
  });

  it('loses lines that cannot be written, and says so with the first that can', () => {
    const full = openSync('/dev/full', 'w');
    const output = new LogOutput(full, { describe: ({ lines, reason }) => `${lines} lost: ${reason}\n` });
    for (let i = 0; i < 3; i++) output.write('line\n');
    closeSync(full);
    const file = join(temporaryFolder(), 'log');
    const now = openSync(file, 'w'); // gets the lowest free number, which the full one had
    expect(now).to.equal(full);
    output.write('again\n');
    output.write('and again\n');
    expect(readFileSync(file, 'utf8')).to.equal('3 lost: ENOSPC\nagain\nand again\n');
    closeSync(now);
  });

  it('to a slow reader keeps every line whole and in order, and says exactly how many are missing where', () => {
    const file = join(temporaryFolder(), 'pipe');
    expect(spawnSync('mkfifo', [file]).status).to.equal(0);
    const { O_RDWR, O_WRONLY, O_NONBLOCK } = constants;
    const reader = openSync(file, O_RDWR | O_NONBLOCK);
    const writer = openSync(file, O_WRONLY | O_NONBLOCK);
    const chunk = Buffer.alloc(1 << 17);
    const read = (bytes: number): string => {
      try {
        return chunk.toString('latin1', 0, readSync(reader, chunk, 0, bytes, null));
      } catch {
        return ''; // nothing to read now
      }
    };
    const step = fc.oneof(
      // Longer than the pipe's capacity, too.
      fc.record({ write: fc.oneof(fc.nat(300), fc.nat(9000), fc.nat(100_000)) }),
      fc.record({ read: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 1 << 17 })) }),
    );
    const steps = fc.array(step, { maxLength: 60 });
    fc.assert(
      fc.property(steps, fc.constantFrom(0, 1000, 100_000), (steps, maxWaitingBytes) => {
        const output = new LogOutput(writer, { maxWaitingBytes, describe: ({ lines }) => `lost ${lines}\n` });
        let text = '';
        let written = 0;
        for (const act of steps) {
          if ('write' in act) output.write(`${written++} ${'x'.repeat(act.write)}\n`);
          else {
            text += read(act.read);
            output.flush(0);
          }
        }
        for (let more = read(1 << 17); more !== ''; more = read(1 << 17)) {
          text += more;
          output.flush(0);
        }
        let next = 0;
        let lost = 0;
        for (const line of text.split('\n').slice(0, -1)) {
          const [, missing] = /^lost (\d+)$/.exec(line) ?? [];
          if (missing === undefined) expect(line).to.match(new RegExp(`^${next++} x*$`));
          else {
            next += Number(missing);
            lost += Number(missing);
          }
        }
        const untold = output.takeLost() - lost;
        expect(next + untold).to.equal(written);
        // Without room to wait, the line that reports the loss waits for the next line that can be written.
        if (maxWaitingBytes > 0) expect(untold).to.equal(0);
      }),
      { numRuns: 1000 },
    );
    closeSync(reader);
    closeSync(writer);
  });

  it('of a process that ends at once is there for a reader who comes late, and no end waits long for one who does not', async () => {
    const program = `
      const { createLog } = await import(${JSON.stringify(`${root}dist/process/log.js`)});
      const log = createLog({ level: 'info', format: 'json', flushTimeoutMs: Number(process.argv[1]) }, { role: 'cli', node: 'n' });
      for (let i = 0; i < 1500; i++) log.info({ i }, 'x'.repeat(50));
      log.fatal('the last words');
      process.exit(3);`;
    const start = (flushTimeoutMs: number) =>
      spawn(process.execPath, ['--input-type=module', '-e', program, String(flushTimeoutMs)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    const late = start(20_000);
    await once(late.stdout, 'readable'); // it has begun to write; nothing has been read yet
    let text = '';
    for await (const chunk of late.stdout.setEncoding('utf8')) text += chunk;
    const lines = text.trimEnd().split('\n');
    expect(lines).to.have.lengthOf(1501);
    expect(lines.at(-1)).to.include('the last words');

    const stalled = start(100);
    stalled.stdout.pause();
    expect((await once(stalled, 'exit'))[0]).to.equal(3);
    stalled.stdout.destroy();
  });
});
