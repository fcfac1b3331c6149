import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { LogOutput } from '#src/log-output.js';
import { temporaryFolder } from '../support/folder.js';

describe('log output', () => {
  it('writes each line at once', () => {
    const file = join(temporaryFolder(), 'log');
    const descriptor = openSync(file, 'w');
    const output = new LogOutput(descriptor, () => 'lost\n');
    output.write('a\n');
    expect(readFileSync(file, 'utf8')).to.equal('a\n');
    output.write('b\n');
    expect(readFileSync(file, 'utf8')).to.equal('a\nb\n');
    closeSync(descriptor);
  });

  it('loses lines that cannot be written, and says so with the first that can', () => {
    const full = openSync('/dev/full', 'w');
    const output = new LogOutput(full, ({ lines, reason }) => `${lines} lost: ${reason}\n`);
    for (let i = 0; i < 3; i++) output.write('line\n');
    closeSync(full);
    const file = join(temporaryFolder(), 'log');
    const now = openSync(file, 'w'); // the lowest free number: what the full one had
    expect(now).to.equal(full);
    output.write('again\n');
    output.write('and again\n');
    expect(readFileSync(file, 'utf8')).to.equal('3 lost: ENOSPC\nagain\nand again\n');
    closeSync(now);
  });
});
