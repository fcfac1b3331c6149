import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { pino } from 'pino';
import { loadConfig } from '#src/config/load.js';
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

async function begun(): Promise<{ publishing: NodePublishing; file: string }> {
  const folder = temporaryFolder();
  const { config } = loadConfig({ env: { PUBLISH_INTERVAL_MS: '10000' }, workingDirectory: folder });
  const record = new NodeRecordKeeper({ node: config.cluster.node, run: 'r1', version: '0' });
  const log = pino({ enabled: false });
  const publishing = new NodePublishing({ config, run: 'r1', record, publisher, isLasting: true, folder, log });
  open.push(publishing);
  await publishing.begin();
  return { publishing, file: join(folder, 'r1.ledger') };
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
