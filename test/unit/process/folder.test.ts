import { chmodSync, chownSync, lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { makeFolder, whyNotOurs } from '#src/process/folder.js';
import { temporaryFolder } from '../../support/folder.js';
import { skip } from '../../support/skip.js';

const codeOf = (run: () => void): string => {
  try {
    run();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
  return 'made';
};

describe('a folder', () => {
  it('is made with those above it, for this user alone; one that is there stays as it is', () => {
    const top = temporaryFolder();
    const folder = join(top, 'a', 'b', 'c');
    makeFolder(folder);
    makeFolder(folder);
    for (const made of [folder, join(top, 'a')]) expect(lstatSync(made).mode & 0o777).to.equal(0o700);
    expect(whyNotOurs(folder)).to.equal(null);
  });

  it('that cannot be made is an error at once, wherever it is', () => {
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    // Node's own recursive mkdir never returns from the first.
    expect(codeOf(() => makeFolder('/proc/none'))).to.equal('ENOENT');
    expect(codeOf(() => makeFolder('/proc/none/below'))).to.equal('ENOENT');
    expect(codeOf(() => makeFolder(join(file, 'below')))).to.equal('ENOTDIR');
    expect(codeOf(() => makeFolder(join(file, 'below', 'below')))).to.equal('ENOTDIR');
    expect(codeOf(() => makeFolder(join(temporaryFolder(), 'n'.repeat(300))))).to.equal('ENAMETOOLONG');
  });

  it('is refused where others could put their files in place of ours', function () {
    const open = join(temporaryFolder(), 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);
    expect(whyNotOurs(open)).to.include('others may write there (mode 777)');
    chmodSync(open, 0o770);
    expect(whyNotOurs(open)).to.include('others may write there (mode 770)');
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    expect(whyNotOurs(file)).to.equal('it is no folder');
    const link = join(temporaryFolder(), 'link');
    symlinkSync(open, link);
    expect(whyNotOurs(link)).to.include('others may write there');
    if (process.getuid?.() !== 0) {
      skip(this, 'in its last part: only root can give a folder to another user');
    }
    chmodSync(open, 0o700);
    expect(whyNotOurs(link)).to.equal(null);
    chownSync(open, 1234, 1234);
    expect(whyNotOurs(open)).to.include('it belongs to user 1234');
    expect(whyNotOurs(link)).to.include('it belongs to user 1234');
  });
});
