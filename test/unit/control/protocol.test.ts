import { expect } from 'chai';
import { controlFolder } from '#src/control/protocol.js';
import { isSocketPath, maxSocketPathBytes } from '#src/net/socket-path.js';

describe('the folder of control sockets', () => {
  const { TMPDIR } = process.env;
  afterEach(() => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  });

  it('has room for the name of every process, whatever the temporary folder', () => {
    for (const character of ['x', 'é', '語']) {
      for (let length = 1; length < 300; length++) {
        process.env.TMPDIR = `/${character.repeat(length)}`;
        const folder = controlFolder();
        expect(isSocketPath(`${folder}/4194304.sock`), process.env.TMPDIR).to.equal(true);
        const isThere = folder.startsWith(process.env.TMPDIR);
        const fits = Buffer.byteLength(`${process.env.TMPDIR}${folder.slice('/tmp'.length)}/4194304.sock`) <= 107;
        if (!isThere) expect(fits, process.env.TMPDIR).to.equal(false);
      }
    }
  });

  it('knows how long a path may be: the bytes of it, not its characters', () => {
    expect(isSocketPath('/'.padEnd(maxSocketPathBytes, 'x'))).to.equal(true);
    expect(isSocketPath('/'.padEnd(maxSocketPathBytes + 1, 'x'))).to.equal(false);
    expect(isSocketPath(`/${'é'.repeat(maxSocketPathBytes / 2)}é`)).to.equal(false);
  });
});
