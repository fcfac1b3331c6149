// A model that others made and published, served unchanged: it recognises what kind of content a file has.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { InferenceClient } from '#src/client/client.js';
import { temporaryFolder } from '../support/folder.js';
import { publicModel } from '../support/models-cache.js';
import { endProcesses, root } from '../support/processes.js';
import { type LogLine, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';

const folder = publicModel('magika/magika/models/standard_v3_3');

interface MagikaConfig {
  readonly beg_size: number;
  readonly end_size: number;
  readonly padding_token: number;
  readonly target_labels_space: readonly string[];
}

/** What the model takes: the file's first and last bytes as int32, padded towards the middle. */
function featuresOf(file: Buffer, { beg_size, end_size, padding_token }: MagikaConfig): Buffer {
  const content = Buffer.from(file.toString('latin1').trim(), 'latin1');
  const features = new Int32Array(beg_size + end_size).fill(padding_token);
  features.set(content.subarray(0, beg_size));
  const end = content.subarray(-end_size);
  features.set(end, beg_size + end_size - end.length);
  return Buffer.from(features.buffer);
}

describe('a public model', () => {
  afterEach(endProcesses);

  it('is served as it is, and knows the files of this project', async function () {
    if (!existsSync(join(folder, 'model.onnx'))) skip(this, 'the public model magika could not be fetched');
    const magika = JSON.parse(readFileSync(join(folder, 'config.min.json'), 'utf8')) as MagikaConfig;
    const config = join(temporaryFolder(), 'server.json');
    const models = [{ name: 'magika', backend: 'onnx', path: folder }];
    writeFileSync(config, JSON.stringify({ models, server: { model: 'magika' } }));
    const server = new TestServer({ args: ['--config', config], env: { WORKERS: '2' } });
    const ready = (await server.event('ready')) as LogLine & { models: Readonly<Record<string, string>> };
    expect(ready.models.magika).to.match(/^onnx bytes int32\[2048\] → target_label float32\[214\], /);
    const client = await InferenceClient.connect({ port: await server.port() });
    const files: Readonly<Record<string, string>> = {
      'package.json': 'json',
      'src/cli.ts': 'typescript',
      'src/inference/batcher.ts': 'typescript',
      'README.md': 'markdown',
      'scripts/train-digits/train.py': 'python',
      'config/models/digits/model.onnx': 'onnx',
    };
    const replies = await Promise.all(
      Object.keys(files).map((file) => client.infer(featuresOf(readFileSync(`${root}${file}`), magika))),
    );
    const labels = replies.map((reply) => {
      const scores = new Float32Array(new Uint8Array(reply).buffer);
      expect(scores.reduce((sum, score) => sum + score)).to.be.closeTo(1, 1e-3);
      return magika.target_labels_space[scores.indexOf(Math.max(...scores))];
    });
    expect(labels).to.deep.equal(Object.values(files));
    await client.close();
  });
});
