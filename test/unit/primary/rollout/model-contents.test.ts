import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { ModelContents } from '#src/primary/rollout/model-contents.js';
import { temporaryFolder } from '../../../support/folder.js';

describe('the content of models', () => {
  const path = join(temporaryFolder(), 'model.onnx');
  /** As on a file system that shows no changes: the identity stays the same whatever is in the file. */
  const versions = { mine: { version: 'unversioned', path, identity: 'always the same' } };
  const identity = async (contents: ModelContents): Promise<string> =>
    (await contents.compared(versions)).mine?.identity ?? '';

  it('tells a replaced file where the file system does not, once for each time', async () => {
    const contents = new ModelContents();
    writeFileSync(path, 'one');
    await contents.learn(versions);
    expect(await identity(contents)).to.equal('always the same');
    const seen = new Set(['always the same']);
    for (const content of ['two', 'three', 'one']) {
      writeFileSync(path, content);
      const changed = await identity(contents);
      expect(seen.has(changed)).to.equal(false);
      seen.add(changed);
      expect(await identity(contents), 'nothing more to do').to.equal(changed);
      expect(contents.labelled(versions).mine?.identity).to.equal(changed);
    }
  });

  it('is compared with what the pass before has read, even if that is still under way', async () => {
    const contents = new ModelContents();
    writeFileSync(path, 'one');
    const learnt = contents.learn(versions);
    const first = identity(contents);
    await learnt;
    expect(await first).to.equal('always the same');
    writeFileSync(path, 'two');
    expect(await identity(contents)).not.to.equal('always the same');
  });

  it('that cannot be read is left to whoever loads it', async () => {
    const contents = new ModelContents();
    const missing = { mine: { version: 'unversioned', path: `${path}.no`, identity: '' } };
    expect(await contents.compared(missing)).to.deep.equal(missing);
  });
});
