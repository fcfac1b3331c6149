import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { pino } from 'pino';
import { clusterIdentity } from '#src/config/describe.js';
import { loadConfig } from '#src/config/load.js';
import { CounterFile } from '#src/metrics/counter-file.js';
import { Recorder } from '#src/metrics/recorder.js';
import type { RecordPublisher } from '#src/metrics/transport/transport.js';
import { NodePublishing } from '#src/primary/metrics/node-publishing.js';
import { NodeRecordKeeper } from '#src/primary/metrics/node-record.js';
import type { WorkerHandle } from '#src/primary/supervision/worker-handle.js';
import { temporaryFolder } from '../../../support/folder.js';
import { countsOf, workerRecord } from '../../../support/records.js';

const published: unknown[] = [];
const publisher: RecordPublisher = {
  publish: async ({ record }) => {
    published.push(record);
  },
  close: async () => {},
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

const open: NodePublishing[] = [];

interface Begun {
  readonly publishing: NodePublishing;
  readonly file: string;
  readonly folder: string;
  /** As `clusterIdentity` has it. */
  readonly cluster: string;
  readonly node: string;
}

async function begun(): Promise<Begun> {
  const folder = temporaryFolder();
  const { config } = loadConfig({ env: { PUBLISH_INTERVAL_MS: '10000' }, workingDirectory: folder });
  const record = new NodeRecordKeeper({ node: config.cluster.node, run: 'r1', version: '0' });
  const log = pino({ enabled: false });
  const publishing = new NodePublishing({ config, run: 'r1', record, publisher, isLasting: true, folder, log });
  open.push(publishing);
  await publishing.begin();
  const cluster = clusterIdentity(config);
  return { publishing, file: join(folder, 'r1.ledger'), folder, cluster, node: config.cluster.node };
}

async function endAll(): Promise<void> {
  await Promise.all(open.splice(0).map((one) => one.end()));
}

const gone = (): WorkerHandle => {
  const lastRecord = workerRecord({ counts: countsOf({ received: 3 }) });
  return { slot: 0, incarnation: 1, lastRecord } as unknown as WorkerHandle;
};

describe('what a primary publishes', () => {
  afterEach(endAll);

  it('is there before its workers start, not only after the first interval', async () => {
    published.length = 0;
    await begun();
    expect(published).to.have.lengthOf(1);
    expect(published[0]).to.include({ run: 'r1' });
  });
});

describe('what a primary keeps in its ledger', () => {
  afterEach(endAll);

  it('is not written any more once the ledger is released', async () => {
    const { publishing, file } = await begun();
    await publishing.end();
    const before = readFileSync(file, 'utf8');
    publishing.fold(gone());
    publishing.count('logLinesLost');
    await turn();
    await publishing.publish();
    expect(readFileSync(file, 'utf8')).to.equal(before);
  });

  it('has a worker that has gone at once, and what belongs to none within a second of publishing', async () => {
    const { publishing, file } = await begun();
    const startedAt = performance.now();
    const written = new Set<number>();
    for (let i = 0; i < 20; i++) {
      publishing.count('logLinesLost');
      await turn();
      await publishing.publish();
      written.add(statSync(file).mtimeMs);
    }
    expect(written.size).to.be.at.most(2 + (performance.now() - startedAt) / 1000);
    publishing.fold(gone());
    await turn();
    expect(readFileSync(file, 'utf8')).to.include('"received":3');
    publishing.count('logLinesLost');
    await publishing.end();
    expect(readFileSync(file, 'utf8')).to.include('"logLinesLost":21');
  });
});

describe('what a node has counted', () => {
  afterEach(endAll);

  it('is what its workers have in their counter files at that moment, and counts once when one departs', async () => {
    const { publishing, folder, cluster, node } = await begun();
    const workers = [1, 2].map((incarnation) => {
      const recorder = new Recorder(['m']);
      const owner = { cluster, node, run: 'r1', slot: 0, incarnation };
      const file = new CounterFile(folder, owner, recorder);
      // What was published last is older than what was counted last.
      const lastRecord = workerRecord({ incarnation, counts: countsOf({ received: 1 }) });
      return { slot: 0, incarnation, lastRecord, recorder, file };
    });
    const answered = (living: typeof workers): number => publishing.counts(living).models.m?.answered ?? 0;
    for (const [i, { recorder, file }] of workers.entries()) {
      recorder.model('m').count('answered', 10 * (i + 1));
      file.write();
    }
    expect(answered(workers)).to.equal(30);
    const [first, second] = workers as [(typeof workers)[0], (typeof workers)[0]];
    second.recorder.model('m').count('answered', 5);
    expect(answered(workers), 'not safe yet, so no client has these replies').to.equal(30);
    second.file.write();
    expect(answered(workers)).to.equal(35);
    publishing.fold(second as unknown as WorkerHandle);
    expect(answered([first])).to.equal(35);
    await turn();
    await publishing.publish();
    expect(answered([first]), 'its file is removed').to.equal(35);
    for (const { file } of workers) file.close();
  });

  it('has what a worker without a counter file published last', async () => {
    const { publishing } = await begun();
    expect(publishing.counts([gone()]).models.m?.received).to.equal(3);
    expect(publishing.counts([{ ...gone(), lastRecord: null }]).models.m).to.equal(undefined);
  });
});
