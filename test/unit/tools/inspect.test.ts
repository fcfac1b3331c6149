import { expect } from 'chai';
import fc from 'fast-check';
import { fixedBatchSize } from '#src/inference/batch-size.js';
import { Batcher } from '#src/inference/batcher.js';
import type { Model } from '#src/inference/model.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { BatchRunner, type BatchSpeed, batchSizes, measureBatches } from '#src/tools/inspect/measure.js';
import { formula, partBytes, payloadLayout, replyLayout, sizesFor } from '#src/tools/inspect/payload.js';
import { type Loaded, type ModelReport, reportOf } from '#src/tools/inspect/report.js';
import { formatInspected } from '#src/tools/inspect/text.js';
import {
  hugePlan,
  imagesPlan,
  inputPlan,
  modelPlan,
  rowPlan,
  sileroPlan,
  textPlan,
  tokensPlan,
} from '../../support/plan-examples.js';

describe('the bytes of a payload', () => {
  it('are those of the inputs without their constants, and of a reply those of the outputs that are returned', () => {
    expect(payloadLayout(rowPlan).bytes).to.equal(256);
    expect(replyLayout(rowPlan).bytes).to.equal(40);
    const silero = payloadLayout(sileroPlan);
    expect(silero.parts.map((part) => [part.name, partBytes(part, {})])).to.deep.equal([
      ['input', 4 * 512],
      ['state', 4 * 2 * 128],
    ]);
    expect(silero.bytes).to.equal(3072);
    expect(replyLayout(textPlan).parts.map(({ name }) => name)).to.deep.equal(['label', 'probabilities']);
    const shared = modelPlan({ inputs: [inputPlan({ name: 'sr', dims: [], dtype: 'int64', batchAxis: 'shared' })] });
    expect(payloadLayout(shared).bytes).to.equal(8);
  });

  it('tell the size of one dynamic dimension, in however many inputs it is, and of no more than one', () => {
    const tokens = payloadLayout(tokensPlan);
    expect(tokens).to.deep.include({ bytes: null, dynamic: ['seq'] });
    expect(formula(tokens.parts)).to.equal('8 + 16 × seq');
    expect(sizesFor(tokens, 8 + 16 * 10)).to.deep.equal({ seq: 10 });
    expect(sizesFor(tokens, 8 + 16 * 10 + 1)).to.equal(null);
    expect(payloadLayout(imagesPlan).dynamic).to.deep.equal(['height', 'width']);
    expect(formula(payloadLayout(imagesPlan).parts)).to.equal('12 × height × width');
    expect(sizesFor(payloadLayout(imagesPlan), 12)).to.equal(null);
    expect(sizesFor(payloadLayout(textPlan), 12)).to.equal(null);
  });

  it('give back every size that they were made with, also one that occurs twice in an input', () => {
    const square = payloadLayout(
      modelPlan({
        inputs: [
          inputPlan({ name: 'm', dims: ['batch', 'n', 'n'] }),
          inputPlan({ name: 'v', dims: ['batch', 'n'], dtype: 'int8' }),
          inputPlan({ name: 'c', dims: ['batch', 3], dtype: 'float16' }),
        ],
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000 }), fc.integer({ min: 1, max: 3 }), (n, more) => {
        const length = 4 * n * n + n + 6;
        expect(sizesFor(square, length)).to.deep.equal({ n });
        if (n > 1) expect(sizesFor(square, length + more)).to.equal(null);
      }),
    );
  });
});

/** A model on a clock of its own: a run takes what `msOf` says, and moves the clock. */
function clocked(msOf: (rows: number) => number) {
  let now = 0;
  const asked: number[] = [];
  const run = async (rows: number): Promise<number> => {
    asked.push(rows);
    now += msOf(rows);
    return msOf(rows);
  };
  return { run, asked, now: () => now };
}

describe('what batching gains', () => {
  it('is measured at 1, 2, 4 … rows and at the most, within the time there is', async () => {
    expect(batchSizes(1)).to.deep.equal([1]);
    expect(batchSizes(8)).to.deep.equal([1, 2, 4, 8]);
    expect(batchSizes(100)).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 100]);
    const { run, now } = clocked((rows) => 1 + rows / 100);
    const speeds = await measureBatches(run, 256, 2000, now);
    expect(speeds.map(({ rows }) => rows)).to.deep.equal(batchSizes(256));
    expect(now()).to.be.within(1000, 2010);
    for (const { rows, runs, p50Ms, rowsPerSecond } of speeds) {
      expect(runs).to.be.within(3, 500);
      expect(p50Ms).to.be.closeTo(1 + rows / 100, 1e-9);
      expect(rowsPerSecond).to.be.closeTo((1000 * rows) / p50Ms, 1e-6);
    }
  });

  it('of a slow model is measured only where a run fits in that time, and at one row in any case', async () => {
    const slow = clocked((rows) => 300 * rows);
    expect((await measureBatches(slow.run, 256, 2000, slow.now)).map(({ rows }) => rows)).to.deep.equal([1, 2]);
    expect(slow.now()).to.be.at.most(2600);
    const slower = clocked(() => 5000);
    expect(await measureBatches(slower.run, 256, 2000, slower.now)).to.have.lengthOf(1);
    expect(slower.now()).to.be.at.most(10_000);
  });

  it('is the median, without the first runs', async () => {
    let runs = 0;
    const { run, now } = clocked(() => (runs++ < 2 ? 50 : 1));
    const [one] = await measureBatches(run, 1, 500, now);
    expect(one?.p50Ms).to.equal(1);
  });

  const batcherOf = (model: Partial<Model>, runner: BatchRunner, maxBatchSize = 8): Batcher => {
    const whole = { inputBytes: null, concurrency: 1, mayReplyWithInput: false, ...model } as Model;
    const limits = { maxQueue: 100, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: true };
    return new Batcher(whole, limits, runner.observe, fixedBatchSize(maxBatchSize));
  };

  it('is measured in one run of all rows', async () => {
    const batches: number[] = [];
    const runner = new BatchRunner();
    const batcher = batcherOf(
      {
        run: async (rows) => {
          batches.push(rows.rows);
          return { kind: 'rows', rows: Array.from({ length: rows.rows }, (_, i) => rows.payload(i)) };
        },
      },
      runner,
    );
    for (const rows of [1, 5, 8]) expect(await runner.run(batcher, Buffer.from('abc'), rows)).to.be.at.least(0);
    expect(batches).to.deep.equal([1, 5, 8]);
    expect(runner.replyBytes).to.equal(3);
  });

  it('is not known when the model fails: its error is', async () => {
    const runner = new BatchRunner();
    const batcher = batcherOf({ run: () => Promise.reject(new Error('no such index')) }, runner);
    for (const rows of [1, 3]) {
      const error = await runner.run(batcher, Buffer.from('x'), rows).then(() => null, String);
      expect(error).to.equal('Error: no such index');
    }
  });
});

const speeds = (...each: readonly (readonly [rows: number, p50Ms: number])[]): readonly BatchSpeed[] =>
  each.map(([rows, p50Ms]) => ({ rows, runs: 9, p50Ms, rowsPerSecond: (1000 * rows) / p50Ms }));

interface Case {
  readonly plan: ModelPlan | null;
  readonly loaded?: Partial<Loaded>;
  readonly batching?: readonly BatchSpeed[];
  readonly execution?: 'inline' | 'thread' | 'auto';
  readonly isInConfig?: boolean;
  readonly maxBatchSize?: number | 'auto';
}

function report({
  plan,
  loaded = {},
  batching = [],
  execution = 'auto',
  isInConfig = false,
  maxBatchSize = 256,
}: Case): ModelReport {
  const served: Loaded = {
    plan,
    execution: 'inline',
    concurrency: 1,
    measured: null,
    version: 'unversioned',
    signature: 'onnx …',
    runsAloneBecause: plan?.runsAloneBecause ?? null,
    inputBytes: null,
    memoryBytes: 41 << 20,
    sample: null,
    size: fixedBatchSize(256),
    ...loaded,
  };
  const entry = { name: 'm', path: 'm.onnx', backend: 'onnx' };
  const source = { name: 'm', backend: 'onnx', path: '/models/m.onnx', isInConfig, entry } as const;
  return reportOf(source, served, { execution, inlineLimitMs: 2, maxBatchSize }, batching, null);
}

const textOf = (of: Case): string => formatInspected([report(of)]);

describe('what inspect prints', () => {
  it('is what a model of rows takes and gives', () => {
    const text = textOf({ plan: rowPlan, loaded: { inputBytes: 256, sample: Buffer.alloc(256) } });
    expect(text).to.include('m: onnx /models/m.onnx\n');
    expect(text).to.match(/^input {3}pixels {9}float32 {2}\[batch,64\] {4}\[1,64\] {8}axis 0$/m);
    expect(text).to.include('A payload has 256 bytes, little-endian:\n  pixels  float32 [1,64]  256 bytes\n');
    expect(text).to.include('A reply has 40 bytes');
    expect(text).to.include('Up to 256 requests share a run; each gets the answer that it gets alone.');
    expect(text).to.include('{ "models": [{ "name": "m", "path": "m.onnx", "backend": "onnx" }],');
    expect(textOf({ plan: rowPlan, isInConfig: true })).not.to.include('"models"');
  });

  it('is each batch axis, and what is shared, constant, not returned, or has labels', () => {
    const silero = textOf({ plan: sileroPlan });
    expect(silero).to.match(/^input {3}state {3}float32 {2}\[2,batch,128\] {2}\[2,1,128\] {5}axis 1$/m);
    expect(silero).to.match(/^input {3}sr {6}int64 {4}\[\] +\[\] +constant$/m);
    expect(silero).to.include(
      'A payload has 3,072 bytes, in this order, little-endian:\n  input  float32 [1,512]    2048 bytes',
    );
    const text = textOf({ plan: textPlan });
    expect(text).to.match(/^Labels of probabilities, in order: no, yes, maybe\.$/m);
    expect(text).to.match(/^output {2}hidden .*not returned$/m);
    expect(text).to.include('A payload has 4 + 1 × bytes of strings bytes');
    expect(text).to.include('Each string is its number of bytes, as a u32 (little-endian)');
    expect(text).to.include('Note: ZipMap was taken out');
  });

  it('is how a length tells a dynamic dimension, with an example', () => {
    const text = textOf({ plan: tokensPlan, loaded: { sample: Buffer.alloc(8 + 16 * 7) } });
    expect(text).to.include('A payload has 8 + 16 × seq bytes, in this order, little-endian:');
    expect(text).to.include('  input_ids       int64 [1,seq]  8 × seq bytes');
    expect(text).to.include('Its length tells seq.');
    expect(text).to.include('Up to 256 requests share a run where they have the same seq; each gets the answer');
    expect(text).to.include('Example: 120 bytes, where seq 7 (input_ids 56, attention_mask 56, scale 8).');
    const [audio, state, sr] = sileroPlan.inputs;
    const sent = modelPlan({
      ...sileroPlan,
      inputs: [audio, state, { ...sr, isConstant: false }] as typeof sileroPlan.inputs,
    });
    const own = textOf({ plan: sent }).replace(/\s+/g, ' ');
    expect(own)
      .to.include('requests share a run where they have the same sr')
      .and.include('"constants": { "sr": 1 }: config');
    expect(textOf({ plan: sileroPlan })).not.to.include('constants');
    const rows = inputPlan({ name: 'x', dims: ['n', 64], requestDims: ['n', 64] });
    const several = textOf({ plan: { ...rowPlan, inputs: [rows] } });
    expect(several).to.include('A payload has 256 × n bytes').and.include('Up to 256 requests share a run; each');
    const images = textOf({ plan: imagesPlan });
    expect(images).to.include('Its length cannot tell height and width.');
    expect(images).to.include('"inputs": { "x": { "shape": [ 1, 3, 1, 1 ] } }');
  });

  it('is why requests run alone', () => {
    expect(textOf({ plan: imagesPlan })).to.include(
      'Each request gets a run of its own: the output boxes has as many rows as it finds.',
    );
    expect(textOf({ plan: { ...rowPlan, fixedBatch: 8 } })).to.include('The file has a batch of 8');
  });

  it('is where it would run and why, and which settings would change what', () => {
    const measured = { oneMs: 0.1, fullRows: 256, fullMs: 5.3, because: 'maxBatchSize' };
    const loaded = { execution: 'thread', concurrency: 1, measured } as const;
    const batching = speeds([1, 0.1], [8, 0.2], [64, 1.3], [128, 2.6], [256, 5.3]);
    const slow = report({ plan: rowPlan, loaded, batching });
    const text = formatInspected([slow]);
    expect(text).to.include('It took 41 MB of memory to load, and would in each worker, ONNX Runtime included.');
    expect(text).to.include(
      'It would run in a thread of each worker: a run of 256 took 5.3 ms when it was loaded, more than\ninlineLimitMs (2).',
    );
    expect(slow.advice.map(({ set }) => set)).to.deep.equal([{ maxBatchSize: 64 }, { execution: 'inline' }]);
    expect(text.replace(/\s+/g, ' ')).to.include(
      '"maxBatchSize": 64: a run of 64 takes 1.3 ms; one of 256 gives no more rows/s, and takes 5.3 ms; with',
    );
    expect(textOf({ plan: rowPlan, execution: 'inline', loaded: { measured } })).to.include(
      'It would run inline, on the event loop of each worker, as execution says; a run of 256 took 5.3 ms',
    );
    const seconds = { ...loaded, measured: { ...measured, fullMs: 2100 } };
    expect(report({ plan: rowPlan, loaded: seconds }).advice, 'not on the event loop').to.deep.equal([]);
    expect(textOf({ plan: null })).to.include('there is no sample to measure it with');
    expect(
      report({ plan: rowPlan, batching: speeds([1, 1], [64, 64 / 150], [128, 128 / 300], [256, 256 / 250]) }).advice,
    ).to.deep.equal([]);
  });

  it('fits 100 columns, however many and however long the names are', () => {
    const reason = `the output ${'x'.repeat(30)} differs by 0.5 between a run of its own and a run of three, `.repeat(
      5,
    );
    for (const plan of [
      rowPlan,
      sileroPlan,
      tokensPlan,
      imagesPlan,
      textPlan,
      { ...rowPlan, runsAloneBecause: reason },
    ])
      for (const line of textOf({ plan, batching: speeds([1, 0.1], [2, 0.1]) }).split('\n'))
        expect(line.length, line).to.be.at.most(100);
    const huge = textOf({ plan: hugePlan });
    for (const line of huge.split('\n')) expect(line.length, line).to.be.at.most(100);
    expect(huge.split('\n').length).to.be.below(100);
    expect(huge.length).to.be.below(10_000);
    expect(huge).to.include('… 480 more inputs').and.include('(5000)');
  });

  it('is for tools the same as JSON', () => {
    const json = JSON.parse(JSON.stringify(report({ plan: tokensPlan, loaded: { sample: Buffer.alloc(40) } })));
    expect(json).to.have.all.keys(
      ...['name', 'backend', 'path', 'isInConfig', 'version', 'signature', 'plan', 'runsAloneBecause', 'maxRows'],
      ...['batchSize', 'payload', 'reply', 'execution', 'memoryBytes', 'batching', 'advice', 'entry'],
    );
    expect(json.payload).to.deep.equal({
      bytes: null,
      formula: '8 + 16 × seq',
      dynamic: ['seq'],
      parts: [
        { name: 'input_ids', dtype: 'int64', dims: [1, 'seq'], bytes: null, formula: '8 × seq' },
        { name: 'attention_mask', dtype: 'int64', dims: [1, 'seq'], bytes: null, formula: '8 × seq' },
        { name: 'scale', dtype: 'float32', dims: [1, 2], bytes: 8, formula: '8' },
      ],
      example: { bytes: 40, sizes: { seq: 2 }, parts: [16, 16, 8] },
    });
    expect(json.plan).to.deep.equal(tokensPlan);
  });
});
