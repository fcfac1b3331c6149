// `ml-tcp-server inspect`, as people run it: it loads models as a worker does, and serves nothing.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ServedModels } from '#src/aggregator/served-models.js';
import type { ServerStatus } from '#src/control/protocol.js';
import type { FailedReport, ModelReport } from '#src/tools/inspect/report.js';
import { temporaryFolder } from '../support/folder.js';
import { dynamicallyQuantised, writeOnnx } from '../support/onnx-writer.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { blocksOf } from '../support/readmes.js';
import { cleanEnv, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const digits = `${root}config/models/digits/model.onnx`;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

async function inspect(args: readonly string[], cwd = root): Promise<Ended> {
  const child = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'inspect', ...args], {
    cwd,
    env: cleanEnv(),
  });
  const { code } = await child.ended(60_000);
  return { code, output: child.output };
}

async function inspectAsJson(args: readonly string[]): Promise<readonly ModelReport[]> {
  const { code, output } = await inspect([...args, '--json']);
  expect(code, output).to.equal(0);
  return (JSON.parse(output) as { models: readonly ModelReport[] }).models;
}

function configOf(models: readonly object[], settings: object = {}): string {
  const file = join(temporaryFolder(), 'config.json');
  writeFileSync(file, JSON.stringify({ models, server: { model: 'dummy' }, ...settings }));
  return file;
}

describe('ml-tcp-server inspect', function () {
  this.timeout(60_000);
  afterEach(endProcesses);

  it('tells of a model file what it takes and gives, what batching gains, and where it would run', async () => {
    const [model] = await inspectAsJson([digits]);
    expect(model).to.deep.include({ name: 'digits', backend: 'onnx', path: digits, version: 'unversioned' });
    expect(model).to.deep.include({ runsAloneBecause: null, maxRows: 256, isInConfig: false });
    expect(model?.plan?.inputs).to.deep.equal([
      {
        name: 'pixels',
        dtype: 'float32',
        dims: ['N', 64],
        batchAxis: 0,
        requestDims: [1, 64],
        isConstant: false,
      },
    ]);
    expect(model?.payload).to.deep.include({ bytes: 256, example: { bytes: 256, sizes: {}, parts: [256] } });
    expect(model?.reply).to.deep.include({ bytes: 40, formula: '40' });
    expect(model?.execution.fullRows).to.equal(256);
    expect(model?.execution.fullMs).to.be.greaterThan(0);
    const [one, ...larger] = model?.batching ?? [];
    expect([one, ...larger].map((speed) => speed?.rows)).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 128, 256]);
    expect(larger.at(-1)?.rowsPerSecond, 'a batch gains').to.be.greaterThan(3 * (one?.rowsPerSecond ?? Infinity));
    expect(model?.entry).to.deep.equal({ name: 'digits', path: digits, backend: 'onnx' });
  });

  it('proposes config that serves the model as it was inspected', async () => {
    const [model] = await inspectAsJson([digits]);
    const [again] = await inspectAsJson(['--config', configOf([model?.entry ?? {}]), '--model', 'digits']);
    expect(again).to.deep.include({ isInConfig: true, plan: model?.plan, entry: model?.entry, path: digits });
  });

  it('inspects all models of config with their settings, says which cannot be served, and ends with 4', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'broken.onnx'), 'no model');
    writeFileSync(join(folder, 'alone.onnx'), writeOnnx(dynamicallyQuantised()));
    const config = configOf([
      { name: 'broken', path: join(folder, 'broken.onnx') },
      { name: 'alone', path: join(folder, 'alone.onnx') },
      { name: 'small', path: digits, maxBatchSize: 8, execution: 'thread', threads: 2 },
    ]);
    const { code, output } = await inspect(['--config', config, '--json']);
    expect(code).to.equal(4);
    const json = output.slice(output.indexOf('{\n'));
    const [broken, alone, small] = (JSON.parse(json) as { models: [FailedReport, ModelReport, ModelReport] }).models;
    expect(broken.name).to.equal('broken');
    expect(broken.error.code).to.equal('MODEL_LOAD_FAILED');
    expect(broken.error.message).to.match(/^the model broken cannot be served: .*broken\.onnx/);
    expect(alone.runsAloneBecause).to.match(/differ/);
    expect(alone.maxRows).to.equal(1);
    expect(alone.batching.map(({ rows }) => rows)).to.deep.equal([1]);
    expect(small).to.deep.include({ maxRows: 8 });
    expect(small.execution).to.deep.include({ where: 'thread', threads: 2, setting: 'thread' });
    expect(small.entry).to.deep.include({ maxBatchSize: 8, execution: 'thread', threads: 2 });
    const text = await inspect(['--config', config]);
    expect(text.code).to.equal(4);
    expect(text.output).to.match(/Each request gets a run of its own: .*differ/s);
    expect(text.output).to.include('It would run in 2 threads of each worker, as execution says');
  });

  it('prints what its README shows, but for what is measured', async () => {
    const [block] = blocksOf('src/inference/README.md').filter(
      ({ heading, language }) => heading === 'Inspect a model' && language === 'text',
    );
    const unmeasured = (text: string): string =>
      text
        .replace(/\n\nSettings of the model that would change.*$/s, '')
        .trimEnd()
        .replaceAll(digits, '/srv/ml-tcp-server/config/models/digits/model.onnx')
        .replace(/[\d.]+ (µs|ms|MB)/g, 'SOME TIME')
        .replace(/(\d[\d.]*[kM]?|SOME TIME)( +× [\d.]+)?$/gm, 'SOME')
        .replace(/ +/g, ' ')
        .replace(/SOME TIME when it was loaded,\s/, 'SOME TIME when it was loaded, ');
    const { output } = await inspect([digits]);
    expect(unmeasured(output)).to.equal(unmeasured(block?.text ?? ''));
  });

  it('takes the settings of a model in config for another file', async () => {
    const config = configOf([{ name: 'digits', path: 'elsewhere.onnx', maxBatchSize: 4 }]);
    const [model] = await inspectAsJson([digits, '--config', config, '--model', 'digits']);
    expect(model).to.deep.include({ name: 'digits', path: digits, maxRows: 4 });
  });

  it('says what keeps a model from being served, and ends with 4', async () => {
    const folder = temporaryFolder();
    for (const [file, says] of [
      [join(folder, 'nothing.onnx'), /^ml-tcp-server: the model nothing cannot be served: there is no model file at /],
      [join(folder, 'nothing.mjs'), /^ml-tcp-server: the model nothing cannot be served: there is no module at /],
    ] as const) {
      const { code, output } = await inspect([file]);
      expect(code, output).to.equal(4);
      expect(output)
        .to.match(says)
        .and.not.match(/^\s+at /m);
    }
    const tooLarge = await inspect([digits, '--set', 'server.lengthFieldSize=2', '--set', 'server.maxBufferedMb=0']);
    expect(tooLarge.code).to.equal(2);
  });

  it('measures a module by its sample, in the thread that it would have', async () => {
    const busy = { backend: 'module', path: `${root}test/support/models/busy.mjs`, settings: { ms: 12 } };
    const [model] = await inspectAsJson(['--config', configOf([{ name: 'busy', ...busy }]), '--model', 'busy']);
    expect(model?.plan).to.equal(null);
    expect(model?.payload.example).to.deep.equal({ bytes: 6, sizes: null, parts: [] });
    expect(model?.reply.example?.bytes).to.equal(6);
    expect(model?.execution).to.include({ where: 'thread', setting: 'auto' });
    expect(model?.batching[0]?.p50Ms).to.be.within(12, 100);
    expect(model?.advice.map(({ set }) => Object.keys(set)[0])).to.include('execution');
  });

  it('prints JSON alone on stdout, whatever a module prints', async () => {
    const noisy = join(temporaryFolder(), 'noisy.mjs');
    writeFileSync(
      noisy,
      "console.log('loading'); process.stdout.write('more'); export default () => ({ infer: (rows) => { console.log('run'); return [...rows]; }, sample: Buffer.from('x') });",
    );
    const child = new TestProcess(
      'bash',
      ['-c', `"${process.execPath}" bundle/cli.js inspect ${noisy} --json 2>/dev/null`],
      {
        cwd: root,
        env: cleanEnv(),
      },
    );
    expect((await child.ended(30_000)).code).to.equal(0);
    expect(JSON.parse(child.output).models[0]).to.deep.include({ name: 'noisy', backend: 'module' });
  });

  it('needs no port and writes nothing', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'tmp'));
    const child = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'inspect', digits], {
      cwd: folder,
      env: { ...cleanEnv(), TMPDIR: join(folder, 'tmp'), HOME: folder, XDG_CACHE_HOME: folder, PORT: '1' },
    });
    expect((await child.ended(30_000)).code, child.output).to.equal(0);
    expect(readdirSync(folder, { recursive: true })).to.deep.equal(['tmp']);
  });
});

describe('the plan of a model that is served', function () {
  this.timeout(60_000);
  afterEach(endProcesses);

  it('is in the ready line, in status, and at /api/models, with the reason of one that runs alone', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'alone.onnx'), writeOnnx(dynamicallyQuantised()));
    const models = [
      { name: 'digits', path: digits },
      { name: 'alone', path: join(folder, 'alone.onnx') },
    ];
    const listeners = models.map(({ name }) => ({ host: '127.0.0.1', port: 0, model: name }));
    const config = configOf(models, { listeners });
    const server = new TestServer({
      args: ['--config', config],
      hasListeners: true,
      env: { WORKERS: '2', NODE_NAME: 'n1' },
    });
    const ready = await server.event('ready');
    const plans = ready.plans as Record<string, string>;
    expect(plans.digits).to.equal('pixels float32[N,64] axis 0 → probabilities float32[N,10] axis 0');
    expect(plans.alone).to.match(/^x float32\[n,4\] .*; one request a run$/);
    const status = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    expect(status.plans.digits?.plan?.inputs[0]).to.deep.include({
      name: 'pixels',
      batchAxis: 0,
      requestDims: [1, 64],
    });
    expect(status.plans.alone?.runsAloneBecause).to.match(/^the output y differs/);
    const text = (await server.operate('status')).output;
    expect(text).to.match(/^ {2}input {3}pixels +float32 {2}\[N,64\] +\[1,64\] +axis 0$/m);
    const { models: told } = await until('both models', async () => {
      const found = (await (await fetch(`${await server.url()}/api/models`)).json()) as ServedModels;
      return (
        found.models.length === 2 &&
        found.models.every(({ served }) => served[0]?.workers === 2 && served[0].plan !== null) &&
        found
      );
    });
    expect(told.map(({ name }) => name)).to.deep.equal(['alone', 'digits']);
    const [alone, shared] = told.map(({ served }) => served[0]);
    expect(alone?.runs_alone_because).to.match(/^the output y differs/);
    expect(alone?.max_rows).to.equal(1);
    expect(shared).to.deep.include({ version: 'unversioned', nodes: ['n1'], workers: 2, runs_alone_because: null });
    expect(shared?.plan?.outputs[0]).to.deep.include({ name: 'probabilities', batch_axis: 0, dims: ['N', 10] });
  });

  it('is that of the new version after a reload of models, also in its line of the log', async () => {
    const folder = temporaryFolder();
    const publish = (version: string, columns: number): void => {
      mkdirSync(join(folder, version));
      const shape = ['n', columns];
      const graph = {
        inputs: [{ name: 'x', dtype: 'float32', shape }],
        outputs: [{ name: 'y', dtype: 'float32', shape }],
        nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
      } as const;
      writeFileSync(join(folder, version, 'model.onnx'), writeOnnx(graph));
    };
    publish('1', 3);
    const config = configOf([{ name: 'm', path: folder }], { server: { model: 'm' } });
    const server = new TestServer({ args: ['--config', config], env: { WORKERS: '2' } });
    const servedWhen = (version: string) =>
      until(`version ${version} everywhere`, async () => {
        const { models } = (await (await fetch(`${await server.url()}/api/models`)).json()) as ServedModels;
        const [only, other] = models[0]?.served ?? [];
        return other === undefined && only?.version === version && only.plan !== null && only.workers === 2 && only;
      });
    expect((await servedWhen('1')).plan?.inputs[0]?.dims).to.deep.equal(['n', 3]);
    publish('2', 5);
    expect((await server.operate('reload', '--models')).code).to.equal(0);
    expect((await servedWhen('2')).plan?.inputs[0]?.dims).to.deep.equal(['n', 5]);
    const { plan } = await server.event('model reloaded');
    expect(plan).to.equal('x float32[n,5] axis 0 → y float32[n,5] axis 0');
    const status = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    expect(status.plans.m).to.deep.include({ version: '2' });
  });
});
