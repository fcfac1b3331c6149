import { appendFileSync, closeSync, existsSync, readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { CounterFile, counterFilePath, readCounterFile, readCounterFiles } from '#src/metrics/counter-file.js';
import { modelCounters, modelHistograms, workerCounters } from '#src/metrics/counters.js';
import { Recorder } from '#src/metrics/recorder.js';
import { temporaryFolder } from '../../support/folder.js';

const names = ['digits', 'other'];
let slots = 0;
const ownerOf = (folder: string) => {
  const owner = { cluster: 'c', node: 'n', run: 'r', slot: slots++, incarnation: 1 };
  return { owner, file: counterFilePath(folder, owner) };
};

const action = fc.oneof(
  fc.record({ kind: fc.constant('worker' as const), counter: fc.constantFrom(...workerCounters), by: fc.nat(1000) }),
  fc.record({
    kind: fc.constant('model' as const),
    model: fc.constantFrom(...names),
    counter: fc.constantFrom(...modelCounters),
    by: fc.nat(1000),
  }),
  fc.record({
    kind: fc.constant('time' as const),
    model: fc.constantFrom(...names),
    histogram: fc.constantFrom(...modelHistograms),
    ms: fc.double({ min: 0, max: 1e7, noNaN: true }),
  }),
  fc.record({
    kind: fc.constant('batch' as const),
    model: fc.constantFrom(...names),
    rows: fc.integer({ min: 1, max: 1e6 }),
  }),
  fc.record({ kind: fc.constant('write' as const) }),
);

describe('the counts in a counter file', () => {
  const folder = temporaryFolder();

  it('are those that were counted before they were written last, whatever that was', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const recorder = new Recorder(names);
        const { owner, file } = ownerOf(folder);
        const counterFile = new CounterFile(folder, owner, recorder);
        let written = recorder.snapshot();
        for (const act of actions) {
          if (act.kind === 'worker') recorder.count(act.counter, act.by);
          else if (act.kind === 'model') recorder.model(act.model).count(act.counter, act.by);
          else if (act.kind === 'time') recorder.model(act.model).time(act.histogram, act.ms);
          else if (act.kind === 'batch') recorder.model(act.model).batch(act.rows);
          else {
            counterFile.write();
            written = recorder.snapshot();
          }
        }
        counterFile.close();
        expect(readCounterFile(file)).to.deep.include({ owner, pid: process.pid, counts: written });
      }),
    );
  });

  it('are not read from a file that is none, cut short, or of another version', () => {
    const { owner, file } = ownerOf(folder);
    new CounterFile(folder, owner, new Recorder(names)).close();
    expect(readCounterFile(join(folder, 'missing'))).to.equal(null);
    for (const bytes of ['', 'nonsense', '{"layout":"other"}\0']) {
      writeFileSync(join(folder, 'other.slab'), bytes);
      expect(readCounterFile(join(folder, 'other.slab'))).to.equal(null);
    }
    truncateSync(file, 5000);
    expect(readCounterFile(file)).to.equal(null);
    appendFileSync(file, Buffer.alloc(1_000_000));
    expect(readCounterFile(file)).to.equal(null);
  });

  it('of all workers are found, and nothing else', () => {
    const own = temporaryFolder();
    const { owner } = ownerOf(own);
    new CounterFile(own, owner, new Recorder([])).close();
    writeFileSync(join(own, 'notes.txt'), 'x');
    expect(readCounterFiles(own).map((counterFile) => counterFile.owner)).to.deep.equal([owner]);
    expect(readCounterFiles(join(own, 'missing'))).to.deep.equal([]);
    expect(readdirSync(own)).to.have.lengthOf(2);
  });

  it('are no file any more when it cannot be written, and nothing throws', () => {
    const own = temporaryFolder();
    const { owner, file } = ownerOf(own);
    const failures: unknown[] = [];
    const recorder = new Recorder(names);
    const counterFile = new CounterFile(own, owner, recorder, { onFailure: (error) => failures.push(error) });
    recorder.count('framesTruncated');
    closeSync(openDescriptors().find((descriptor) => readlinkSync(`/proc/self/fd/${descriptor}`) === file) as number);
    counterFile.write();
    counterFile.write();
    expect(failures).to.have.lengthOf(1);
    expect(readdirSync(own)).to.deep.equal([]);
  });
});

const openDescriptors = (): readonly number[] =>
  readdirSync('/proc/self/fd')
    .map(Number)
    .filter((descriptor) => existsSync(`/proc/self/fd/${descriptor}`));
