// The command that the `ready` line proposes is run unchanged, for each kind of model.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { writeOnnx } from '../support/onnx-writer.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { cleanEnv, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';

const folder = temporaryFolder();

/** Token ids → their rows of a table: random bytes are not valid ids. */
const embedding = writeOnnx({
  inputs: [{ name: 'ids', dtype: 'int64', shape: ['n', 3] }],
  outputs: [{ name: 'rows', dtype: 'float32', shape: ['n', 3, 2] }],
  nodes: [{ op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] }],
  constants: [{ name: 'table', shape: [4, 2], values: new Float32Array(8) }],
});

describe('the next step that a server proposes when it is ready', function () {
  this.timeout(30_000);
  afterEach(endProcesses);

  const served = (model: { readonly path: string; readonly backend?: string }): readonly string[] => {
    const file = `${model.path}.json`;
    writeFileSync(file, JSON.stringify({ models: [{ name: 'mine', ...model }], server: { model: 'mine' } }));
    return ['--config', file];
  };
  const onnx = join(folder, 'embedding.onnx');
  writeFileSync(onnx, embedding);
  const module = join(folder, 'digits.mjs');
  writeFileSync(
    module,
    'export default () => ({ infer: (rows) => rows.map((row) => /^[0-9]+$/.test(row) ? row : new Error("no number")) });',
  );
  writeFileSync(join(folder, 'number'), '42');

  const cases: [string, readonly string[], Record<string, string>, RegExp][] = [
    ['an ONNX model of token ids', served({ path: onnx }), {}, /--payload-size 24 --zeros /],
    [
      'a module',
      served({ backend: 'module', path: module }),
      { SHARED_SECRET: 'a' },
      /^SHARED_SECRET=SECRET .*--payload FILE /,
    ],
  ];
  for (const [what, args, env, proposed] of cases) {
    it(`fits ${what}, and succeeds`, async () => {
      const server = new TestServer({ args, env: { WORKERS: '1', ...env } });
      const { next } = await server.event('ready');
      expect(next).to.match(proposed);
      const command = String(next)
        .replace(/ (sends) .*$/, '')
        .replace('npx ml-tcp-server', `${process.execPath} ${root}bundle/cli.js`)
        .replace('SECRET=SECRET', 'SECRET=a')
        .replace('FILE', join(folder, 'number'));
      const simulation = new TestProcess('sh', ['-c', `${command} -n 300`], { env: cleanEnv() });
      expect((await simulation.ended()).code, simulation.output).to.equal(0);
      expect(simulation.output).to.include('totals agree: server 300 requests, 0 errors');
    });
  }

  it('asks over HTTP with the secret, where requests name their models', async function () {
    if (spawnSync('curl', ['--version']).error !== undefined) skip(this, 'curl is not installed');
    const env = { WORKERS: '1', PROTOCOL: 'open', SHARED_SECRET: 'a' };
    const { next } = await new TestServer({ env }).event('ready');
    expect(next).to.match(/^curl -H 'Authorization: Bearer SECRET' .* tells what digits takes$/);
    const command = String(next)
      .replace(/ tells .*$/, '')
      .replace('SECRET', 'a');
    const asked = new TestProcess('sh', ['-c', `${command} --fail --silent --show-error`], { env: cleanEnv() });
    expect((await asked.ended()).code, asked.output).to.equal(0);
    expect(asked.output).to.include('"name":"digits"').and.to.include('"shape":[-1,64]');
  });
});
