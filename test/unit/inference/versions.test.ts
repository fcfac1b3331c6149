import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { findVersion } from '#src/inference/versions.js';
import { temporaryFolder } from '../../support/folder.js';

describe('the version of a model', () => {
  let folder = '';
  beforeEach(() => {
    folder = temporaryFolder();
  });

  const add = (version: string, file = 'model.onnx'): string => {
    mkdirSync(join(folder, version), { recursive: true });
    const path = join(folder, version, file);
    writeFileSync(path, '');
    return path;
  };

  it('is the one with the highest number', () => {
    for (const version of ['1', '2', '10', '9']) add(version);
    expect(findVersion(folder, 'latest')).to.include({ version: '10', path: join(folder, '10', 'model.onnx') });
  });

  it('is the one that config pins', () => {
    for (const version of ['1', '2']) add(version);
    expect(findVersion(folder, '1')).to.include({ version: '1', path: join(folder, '1', 'model.onnx') });
    expect(() => findVersion(folder, '3')).to.throw(/there is no version 3 in .*: there are 1, 2/);
  });

  it('is none that has no model yet, and no folder that is not a number', () => {
    add('1', 'model.mjs');
    mkdirSync(join(folder, '2'));
    add('notes');
    expect(findVersion(folder, 'latest')).to.include({ version: '1', path: join(folder, '1', 'model.mjs') });
  });

  it('of a path without versions changes with its file', () => {
    const path = add('.');
    const before = findVersion(folder, 'latest');
    expect(before).to.include({ version: 'unversioned', path: join(folder, 'model.onnx') });
    expect(findVersion(path, 'latest')).to.deep.equal({ ...before, path });
    utimesSync(path, new Date(), new Date(Date.now() + 5000));
    expect(findVersion(folder, 'latest').identity).not.to.equal(before.identity);
  });

  it('of a path that is not there is left to whoever loads it', () => {
    expect(findVersion(join(folder, 'missing'), 'latest')).to.deep.equal({
      version: 'unversioned',
      path: join(folder, 'missing'),
      identity: '',
    });
  });
});
