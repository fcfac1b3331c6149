// The tests themselves: test/README.md names the promise of each spec, and no test is skipped without a reason.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { root } from '../support/processes.js';

const files = readdirSync(`${root}test`, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const specs = files.filter((file) => file.endsWith('.test.ts'));

describe('the README of the tests', () => {
  const readme = readFileSync(`${root}test/README.md`, 'utf8');
  const rows = readme.split('\n').filter((line) => line.startsWith('|'));

  it('names for each spec the promise that it holds, once, and no file that is not there', () => {
    const named = rows.flatMap((row) => row.match(/[\w/-]+\.test\.ts/g) ?? []);
    expect(named.toSorted()).to.deep.equal(specs.toSorted());
    for (const row of rows.filter((text) => text.includes('.test.ts')))
      expect(row, row).to.match(/^\| [^|]{20,} \| [\w/.-]+\.test\.ts(, [\w/.-]+\.test\.ts)* \|$/);
  });

  it('names files and commands that there are', () => {
    for (const [, link = ''] of readme.matchAll(/\]\(((?!https?:)[^)]+)\)/g))
      expect(existsSync(`${root}test/${link}`), link).to.equal(true);
    for (const [file] of readme.match(/\((\w[\w-]*\.ts)\)/g)?.map((name) => [name.slice(1, -1)]) ?? [])
      expect(files).to.include(`support/${file}`);
    const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
    for (const [, script = ''] of readme.matchAll(/npm run (\w[\w-]*)/g)) expect(scripts).to.have.property(script);
    for (const [, path = ''] of readme.matchAll(/npm test -- (test\/\S+)/g))
      expect(existsSync(`${root}${path}`), path).to.equal(true);
  });
});

describe('a test that is skipped', () => {
  it('has a reason: nowhere is one left out without', () => {
    for (const file of files.filter((name) => name !== 'support/skip.ts' && name !== 'unit/tests.test.ts')) {
      const text = readFileSync(`${root}test/${file}`, 'utf8');
      expect(text, file).not.to.match(/\b(this|context)\.skip\(|\b(it|describe)\.skip\b|\bxit\(|\bxdescribe\(/);
    }
  });
});
