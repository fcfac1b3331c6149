import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { expect } from 'chai';
import { type Execution, ServedModel, type ServingSettings } from '#src/inference/served-model.js';
import { ThreadedModel, threadsThatCannotEnd } from '#src/inference/threads/host.js';
import { findVersion } from '#src/inference/versions.js';
import { ampleCurve, ampleRuns } from '../../support/batchers.js';
import { temporaryFolder } from '../../support/folder.js';
import { loop, writeOnnx } from '../../support/onnx-writer.js';
import { root } from '../../support/processes.js';
import { repliesOf, rowsOf } from '../../support/rows.js';
import { session } from '../../support/session.js';
import { until } from '../../support/until.js';

interface Choice {
  readonly execution?: Execution;
  readonly backend?: 'onnx' | 'module' | 'dummy';
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly inlineLimitMs?: number;
  readonly maxBatchSize?: number | 'auto';
}

function settingsOf({
  execution = 'auto',
  backend = 'module',
  settings = {},
  inlineLimitMs = 2,
  maxBatchSize = 4,
}: Choice) {
  const source = { name: 'm', backend, responseSize: 1, settings, session, batchTolerance: 1e-4 };
  const batching = { maxBatchSize, maxQueue: 10, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: true, ...ampleRuns };
  const threads = { threads: 1, hangTimeoutMs: 60_000, loadTimeoutMs: 60_000, maxHungThreads: 4 };
  return { ...batching, ...threads, source, execution, inlineLimitMs, admit: () => {} } satisfies ServingSettings;
}

const model = (name: string): string => `${root}test/support/models/${name}`;
const quiet = { onBatch: () => {}, onThreadCrash: () => {}, onThreadHang: () => {}, onThreadHangOver: () => {} };

describe('where a model runs', () => {
  let served: ServedModel | undefined;
  afterEach(() => served?.close());

  const open = async (path: string, choice: Choice): Promise<ServedModel> => {
    served = await ServedModel.open(settingsOf(choice), findVersion(path, 'latest'), quiet);
    return served;
  };

  it('is inline or in a thread, as it is told', async () => {
    expect(await open(model('echo.mjs'), { execution: 'inline' })).to.have.property('execution', 'inline');
    await served?.close();
    expect(await open(model('echo.mjs'), { execution: 'thread' })).to.have.property('execution', 'thread');
    expect(served?.description).to.match(/in 1 thread, \d+ MB$/);
  });

  it('is a thread for what would hold the event loop longer than the limit, with auto', async () => {
    const settings = { ms: 12 };
    expect(await open(model('busy.mjs'), { settings, inlineLimitMs: 5 })).to.have.property('execution', 'thread');
    expect(served?.description).to.match(/in 1 thread, \d+\.\d{3} ms a row, \d+\.\d{3} ms a full batch of 4, \d+ MB$/);
    await served?.close();
    expect(await open(model('busy.mjs'), { settings, inlineLimitMs: 1000 })).to.have.property('execution', 'inline');
  });

  it('is judged by the batch that is chosen, not by one that the model would never get', async () => {
    const path = join(temporaryFolder(), 'rows.mjs');
    writeFileSync(
      path,
      `export default () => ({
         sample: Buffer.from('sample'),
         infer(payloads) {
           const until = performance.now() + 0.3 * payloads.length;
           while (performance.now() < until);
           return payloads;
         },
       });`,
    );
    const few = await open(path, { maxBatchSize: 'auto', inlineLimitMs: 10 });
    expect([few.execution, few.size.reason]).to.deep.equal(['inline', 'more gain little']);
    expect(few.size.rows).to.be.within(1, 8);
    await few.close();
    const many = await open(path, { maxBatchSize: 256, inlineLimitMs: 10 });
    expect([many.execution, many.size.rows]).to.deep.equal(['thread', 256]);
    expect(many.measured?.fullMs, 'by what fewer rows take').to.be.within(70, 200);
  });

  it('is inline with auto for an ONNX model that is quick, and for what cannot be measured', async () => {
    const digits = `${root}config/models/digits`;
    expect(await open(digits, { backend: 'onnx', inlineLimitMs: 1000 })).to.have.property('execution', 'inline');
    await served?.close();
    expect(await open(model('echo.mjs'), {})).to.have.property('execution', 'inline');
    await served?.close();
    expect(await open(digits, { backend: 'onnx', inlineLimitMs: 0 })).to.have.property('execution', 'thread');
  });
});

describe('a model in threads', () => {
  let threaded: ThreadedModel | undefined;
  const crashes: Error[] = [];
  const hangs: Error[] = [];
  let hangsOver = 0;
  afterEach(async () => {
    await threaded?.close();
    crashes.length = hangs.length = hangsOver = 0;
  });

  const open = async (
    file: string,
    threads: number,
    settings = {},
    hangTimeoutMs = 60_000,
    maxHungThreads = 4,
    loadTimeoutMs = 60_000,
  ): Promise<ThreadedModel> => {
    const backend = file.endsWith('.onnx') ? 'onnx' : 'module';
    const path = isAbsolute(file) ? file : model(file);
    const source = { name: 'm', backend, path, responseSize: 1, settings, session, batchTolerance: 1e-4 } as const;
    threaded = await ThreadedModel.open(source, {
      threads,
      maxBatchSize: 4,
      curve: ampleCurve,
      hangTimeoutMs,
      loadTimeoutMs,
      maxHungThreads,
      onCrash: (error) => crashes.push(error),
      onHang: (error) => hangs.push(error),
      onHangOver: () => hangsOver++,
    });
    await threaded.addThreads();
    return threaded;
  };
  const ask = async (text: string): Promise<string> => {
    try {
      const replies = await (threaded as ThreadedModel).run(rowsOf([Buffer.from(text)]));
      return Buffer.from(repliesOf(replies, 1)[0] ?? '', 'hex').toString();
    } catch (error) {
      return String(error);
    }
  };

  it('fails the batch that crashes it at once, is replaced, and tells of it', async () => {
    await open('echo.mjs', 1);
    expect(await ask('a')).to.equal('a');
    for (let crash = 1; crash <= 3; crash++) {
      expect(await ask('crash')).to.match(/^ThreadCrashedError: .* crashed: it exited with code 7/);
      expect(crashes).to.have.lengthOf(crash);
      expect(await ask('b')).to.equal('b');
    }
  });

  it('fails a run that hangs, goes on with another thread at once, and ends the JavaScript of the old one', async () => {
    const gate = join(temporaryFolder(), 'gate');
    await open('gate.mjs', 1, { gate }, 500);
    writeFileSync(gate, '');
    expect(await ask('a')).to.match(/^ThreadHungError: a run took longer than 500 ms .* left to end by itself/);
    expect([hangs.length, crashes.length, hangsOver]).to.deep.equal([1, 0, 0]);
    await until('the end of the thread', () => hangsOver === 1);
    rmSync(gate);
    expect(await ask('b')).to.equal('b');
    expect(crashes).to.have.lengthOf(0);
  });

  it('leaves a run in native code to end by itself: this process lives, and the next requests are answered', async () => {
    const file = join(temporaryFolder(), 'loop.onnx');
    writeFileSync(file, writeOnnx(loop));
    const loops = await open(file, 1, {}, 200);
    const run = async (times: number): Promise<string> => {
      const row = Buffer.alloc(4);
      row.writeFloatLE(times);
      return loops.run(rowsOf([row])).then(() => 'answered', String);
    };
    const hung = await run(1_000_000);
    expect(hung).to.match(/^ThreadHungError: a run took longer than 200 ms/);
    expect([await run(1), await run(2)]).to.deep.equal(['answered', 'answered']);
    expect(threadsThatCannotEnd(), 'threads in native code').to.equal(1);
    await until('the end of the native run', () => hangsOver === 1);
    expect(threadsThatCannotEnd()).to.equal(0);
    expect([hangs.length, crashes.length]).to.deep.equal([1, 0]);
  });

  it('does not take many slow rows, one run after the other, for one run that hangs', async () => {
    const file = join(temporaryFolder(), 'loop.onnx');
    writeFileSync(file, writeOnnx({ ...loop, inputs: [{ name: 'x', dtype: 'float32', shape: [1, 1] }] }));
    const loops = await open(file, 1, {}, 500);
    const row = Buffer.from(Float32Array.of(20_000).buffer);
    // Enough rows to take longer than a hang, however fast the machine is.
    for (let rows = 120, tookMs = 0; tookMs < 750; rows *= 2) {
      const begunAt = performance.now();
      const replies = await loops.run(rowsOf(Array.from({ length: rows }, () => row)));
      tookMs = performance.now() - begunAt;
      expect(repliesOf(replies, rows)).to.have.lengthOf(rows);
    }
    expect(hangs).to.have.lengthOf(0);
  });

  it('replaces no more hung threads than it may, fails what comes then, and recovers when one has ended', async () => {
    const gate = join(temporaryFolder(), 'gate');
    const gated = await open('gate.mjs', 1, { gate }, 200, 1);
    writeFileSync(gate, '');
    const runs = await Promise.all(['a', 'b', 'c'].map(ask));
    expect(runs[0]).to.match(/took longer than 200 ms/);
    expect(runs[1]).to.match(/took longer than 200 ms/);
    expect(runs[2]).to.match(/^ThreadHungError: 2 threads of the model hang \(cluster.maxHungThreads\)/);
    rmSync(gate);
    await until('a thread that has ended', () => hangsOver > 0);
    await until('a thread that serves', async () => (await ask('d')) === 'd');
    expect(gated.threadsInRuns).to.be.at.most(1);
  });

  it('is refused when it is not ready in time, and the thread is left to end', async () => {
    const file = join(temporaryFolder(), 'slow.mjs');
    writeFileSync(
      file,
      'await new Promise((resolve) => setTimeout(resolve, 700)); export default () => ({ infer: (rows) => rows });',
    );
    const source = {
      name: 'm',
      backend: 'module',
      path: file,
      responseSize: 1,
      settings: {},
      session,
      batchTolerance: 0,
    } as const;
    const options = { threads: 1, maxBatchSize: 4, curve: ampleCurve, hangTimeoutMs: 60_000, maxHungThreads: 1 };
    const events = { onCrash: () => {}, onHang: () => {}, onHangOver: () => {} };
    const failure = await ThreadedModel.open(source, { ...options, ...events, loadTimeoutMs: 200 }).catch(String);
    expect(failure).to.equal('Error: its thread was not ready in 0.2 s (cluster.bootTimeoutSeconds)');
    expect(threadsThatCannotEnd()).to.equal(1);
    await until('the end of the thread', () => threadsThatCannotEnd() === 0);
  });

  it('fails what waits for a thread that does not load in time, and lets no more of them hang than it may', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'once.mjs');
    const loaded = JSON.stringify(join(folder, 'loaded'));
    writeFileSync(
      file,
      `import { existsSync, writeFileSync } from 'node:fs';
       while (existsSync(${loaded}));
       export default () => ({ infer: () => { writeFileSync(${loaded}, ''); process.exit(7); } });`,
    );
    const once = await open(file, 1, {}, 60_000, 1, 1500);
    expect(await ask('a')).to.match(/^ThreadCrashedError/);
    expect(await ask('b')).to.match(
      /^NoThreadError: the model has no thread, and none could be started: its thread was not ready in 1.5 s/,
    );
    await until('a thread that hangs', () => hangs.length > 0);
    expect(once.threadsInRuns).to.be.within(0, 2);
    expect(crashes).to.have.lengthOf(1);
    await until('the end of a thread that hung', () => hangsOver > 0);
    await once.close();
    await until('the end of the last one', () => threadsThatCannotEnd() === 0);
  });

  it('that is closed still counts a thread that does not end, though it has no run', async () => {
    const folder = temporaryFolder();
    const gate = join(folder, 'gate');
    const held = join(folder, 'held');
    const file = join(folder, 'after.mjs');
    writeFileSync(
      file,
      `import { existsSync, writeFileSync } from 'node:fs';
       const hold = () => {
         writeFileSync(${JSON.stringify(held)}, '');
         while (existsSync(${JSON.stringify(gate)}));
       };
       export default () => ({ infer: (rows) => (setTimeout(hold, 20), rows) });`,
    );
    const after = await open(file, 1);
    expect(threadsThatCannotEnd()).to.equal(0);
    writeFileSync(gate, '');
    expect(await ask('a')).to.equal('a');
    await until('a thread that is held', () => existsSync(held));
    await after.close();
    expect(threadsThatCannotEnd()).to.equal(1);
    rmSync(gate);
    await until('the end of the thread', () => threadsThatCannotEnd() === 0);
  });

  it('runs on other threads while one is held', async () => {
    const folder = temporaryFolder();
    const gate = join(folder, 'gate');
    await open('gate.mjs', 2, { gate });
    writeFileSync(gate, '');
    const held = [ask('a'), ask('b')];
    let isDone = false;
    void Promise.all(held).then(() => {
      isDone = true;
    });
    let turns = 0;
    await until('a hundred turns of this event loop while both threads are held', () => ++turns >= 100, {
      intervalMs: 1,
    });
    expect(isDone).to.equal(false);
    rmSync(gate);
    expect(await Promise.all(held)).to.deep.equal(['a', 'b']);
  });
});

describe('a new version of a model', () => {
  let folder = '';
  let served: ServedModel | undefined;
  beforeEach(() => {
    folder = temporaryFolder();
  });
  afterEach(async () => {
    await served?.close();
  });

  const add = (version: string, code: string): void => {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'model.mjs'), code);
  };
  const answers = (text: string): string =>
    `import { writeFileSync } from 'node:fs';
     export default () => ({
       infer: (payloads) => payloads.map(() => Buffer.from('${text}')),
       close: () => writeFileSync(new URL('closed', import.meta.url), ''),
     });`;
  const ask = async (): Promise<string> => {
    const { batcher } = served as ServedModel;
    const batch = batcher.openBatch(served as ServedModel);
    if (batch === null) return 'refused';
    const settled = new Promise<void>((resolve) => {
      batch.enter({
        arrivedAt: performance.now(),
        requests: 1,
        rows: 1,
        first: 0,
        split: () => expect.fail('it has one row'),
        moved: () => {},
        settled: resolve,
        expired: () => {},
      });
    });
    batch.add(Buffer.from('x'), 0, 1);
    batch.retain();
    await settled;
    const { outcome } = batch;
    return outcome?.kind === 'rows' ? Buffer.from(outcome.rows[0] as Uint8Array).toString() : String(outcome?.kind);
  };

  for (const execution of ['inline', 'thread'] as const) {
    it(`takes over between two batches, and the old one is closed (${execution})`, async () => {
      add('1', answers('one'));
      served = await ServedModel.open(settingsOf({ execution }), findVersion(folder, 'latest'), quiet);
      expect(await ask()).to.equal('one');
      expect(await served.reload(findVersion(folder, 'latest')), 'nothing to do').to.equal(false);
      add('2', answers('two'));
      expect(await served.reload(findVersion(folder, 'latest'))).to.equal(true);
      expect(served.version).to.equal('2');
      expect(await ask()).to.equal('two');
      expect(existsSync(join(folder, '1', 'closed'))).to.equal(true);
      expect(existsSync(join(folder, '2', 'closed'))).to.equal(false);
    });

    it(`that cannot be loaded leaves the old one serving (${execution})`, async () => {
      add('1', answers('one'));
      served = await ServedModel.open(settingsOf({ execution }), findVersion(folder, 'latest'), quiet);
      add('2', 'throw new Error("half a file");');
      const failure = await served.reload(findVersion(folder, 'latest')).catch((error: Error) => error.message);
      expect(failure).to.equal('half a file');
      expect(served.version).to.equal('1');
      expect(await ask()).to.equal('one');
    });
  }
});
