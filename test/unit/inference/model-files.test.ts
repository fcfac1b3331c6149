import { linkSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { contentOf, identityOf, modelFiles } from '#src/inference/model-files.js';
import { temporaryFolder } from '../../support/folder.js';
import { writeOnnx } from '../../support/onnx-writer.js';

/** x float32[1] → x + k, where another file holds k. */
const withExternalData = (externalFile: string): Buffer =>
  writeOnnx({
    inputs: [{ name: 'x', dtype: 'float32', shape: ['n', 1] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['n', 1] }],
    nodes: [{ op: 'Add', inputs: ['x', 'k'], outputs: ['y'] }],
    constants: [{ name: 'k', shape: [1], values: new Float32Array(1), externalFile }],
  });

describe('the files of a model', () => {
  let folder = '';
  beforeEach(() => {
    folder = temporaryFolder();
  });
  const write = (name: string, content: string | Buffer = ''): string => {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, content);
    return path;
  };

  it('are those that an ONNX model keeps its weights in, whatever their names, and no others', () => {
    for (const name of ['mine.onnx.data', 'weights.bin', 'parts/0', `${'n'.repeat(200)}.bin`]) {
      const model = write('mine.onnx', withExternalData(name));
      const data = write(name, Buffer.alloc(4));
      write('other.onnx');
      expect(modelFiles(model)).to.deep.equal([model, data]);
    }
    write('outside.bin');
    const model = write('model/mine.onnx', withExternalData('../outside.bin'));
    expect(modelFiles(model)).to.deep.equal([model]);
  });

  it('are those that a module and what it imports name beside themselves', () => {
    const model = write('model.mjs', 'import { a } from "./lib/a.mjs"; new URL(`./weights.bin`, import.meta.url);');
    const files = [model, write('weights.bin'), write('lib/a.mjs', "export * from './b.mjs'"), write('lib/b.mjs')];
    write('lib/c.mjs');
    expect(modelFiles(model).toSorted()).to.deep.equal(files.toSorted());
    write('lib/b.mjs', "import '../model.mjs'; import './nowhere.mjs'"); // a circular import
    expect(modelFiles(model)).to.have.lengthOf(4);
  });

  it('are read from whatever bytes there are', () => {
    const key = Buffer.from('\n\x08location\x12');
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.constant(key))), (parts) => {
        const model = write('mine.onnx', Buffer.concat(parts));
        return modelFiles(model)[0] === model;
      }),
      { numRuns: 300 },
    );
  });

  const at = new Date('2020-01-01T00:00:00Z');
  const sameTime = (path: string): string => {
    utimesSync(path, at, at);
    return path;
  };
  /**
   * Returns when the clock of the file system, which moves in steps of some milliseconds, has passed that file's time.
   */
  const tick = (path: string): void => {
    const { ctimeNs } = statSync(path, { bigint: true });
    while (statSync(write('clock'), { bigint: true }).ctimeNs <= ctimeNs);
  };
  const replacements: [string, (path: string) => void][] = [
    ['written anew', (path) => sameTime(write('model.onnx', 'two')) === path],
    ['moved into place', (path) => renameSync(sameTime(write('staged', 'two')), path)],
    [
      'linked into place',
      (path) => {
        rmSync(path);
        linkSync(sameTime(write('staged', 'two')), path);
      },
    ],
    [
      'a symbolic link that points elsewhere now',
      (path) => {
        rmSync(path);
        symlinkSync(sameTime(write('staged', 'two')), path);
      },
    ],
  ];
  for (const [how, replace] of replacements) {
    it(`are others when one was replaced by one of the same size and time: ${how}`, () => {
      const path = sameTime(write('model.onnx', 'one'));
      const before = identityOf(path);
      expect(identityOf(path)).to.equal(before);
      tick(path);
      replace(path);
      expect(statSync(path)).to.deep.include({ size: 3, mtimeMs: at.getTime() });
      expect(identityOf(path)).not.to.equal(before);
    });
  }

  it('are others when the weights beside the model were replaced, and the model was not', () => {
    const path = write('mine.onnx', withExternalData('k.bin'));
    sameTime(write('k.bin', 'one'));
    const before = identityOf(path);
    renameSync(sameTime(write('staged', 'two')), join(folder, 'k.bin'));
    expect(identityOf(path)).not.to.equal(before);
  });

  it('have a content that tells them apart by every byte, and by nothing else', async () => {
    const path = write('mine.onnx', withExternalData('k.bin'));
    const weights = Buffer.alloc(600_000, 7);
    write('k.bin', weights);
    const before = await contentOf(path);
    renameSync(write('staged', weights), join(folder, 'k.bin'));
    expect(await contentOf(path)).to.equal(before);
    weights[599_999] = 8;
    write('k.bin', weights);
    expect(await contentOf(path)).not.to.equal(before);
  });

  it('that are not there have no identity', () => {
    expect(identityOf(join(folder, 'nowhere'))).to.equal('');
  });
});
