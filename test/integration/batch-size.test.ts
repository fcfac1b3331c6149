// How many requests share a run, as real clients find it: chosen by what runs take, and bounded by it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { ModelsServer } from '../support/models-server.js';
import { endProcesses, root } from '../support/processes.js';

/** A module that computes for so many milliseconds, and answers each request with the rows of its run. */
function computing(name: string, runMs: number, rowMs: number, hasSample: boolean): string {
  const file = join(temporaryFolder(), `${name}.mjs`);
  writeFileSync(
    file,
    `export default () => ({
       ${hasSample ? "sample: Buffer.from('sample')," : ''}
       infer(payloads) {
         const until = performance.now() + ${runMs} + ${rowMs} * payloads.length;
         while (performance.now() < until);
         return payloads.map(() => Buffer.from([payloads.length]));
       },
     });`,
  );
  return file;
}

const rowsOfRuns = (replies: readonly Buffer[]): number[] => replies.map((reply) => reply[0] ?? 0);
const requests = (count: number): readonly Buffer[] => Array.from({ length: count }, () => Buffer.from('x'));

describe('the rows of a batch', function () {
  this.timeout(60_000);
  afterEach(endProcesses);

  it('are few of a slow model that gains nothing by more, and log and metrics say so', async () => {
    const path = computing('slow', 0, 30, true);
    const server = new ModelsServer(temporaryFolder(), [{ name: 'slow', backend: 'module', path }]);
    const client = await server.client('slow');
    client.send(...requests(12));
    // On a busy machine two may seem to gain, and then four are tried.
    expect(Math.max(...rowsOfRuns(await client.replied(12)))).to.be.at.most(4);
    const { models } = (await server.event('ready')) as unknown as { models: Readonly<Record<string, string>> };
    expect(models.slow).to.match(
      /in 1 thread, \d+\.\d{3} ms a row.* \((more gain little|more would take longer .*|it grows while that gains)\), /,
    );
    const model = await server.modelWhen('slow', ({ answered }) => answered === 12);
    expect(model.max_rows).to.be.at.most(4);
    expect(model.max_rows_because.join()).to.match(
      /^(more gain little|more would take longer than latencyTargetMs \(100\)|it grows while that gains)$/,
    );
    expect(model.run_fixed_ms + model.row_ms).to.be.within(25, 1000);
    expect(await server.prometheus()).to.match(/^mltcp_model_row_seconds\{.*model="slow".*\} 0\.\d/m);
  });

  it('become many of a model that could not be measured, whose runs take long and whose rows do not', async () => {
    const path = computing('steady', 10, 0, false);
    const server = new ModelsServer(temporaryFolder(), [{ name: 'steady', backend: 'module', path }]);
    const client = await server.client('steady');
    client.send(...requests(1000));
    const rows = rowsOfRuns(await client.replied(1000));
    expect(rows[0]).to.equal(1);
    expect(Math.max(...rows)).to.be.at.least(64);
  });

  it('are fewer than config says where so many would take longer than maxRunMs', async () => {
    const path = computing('bounded', 0, 20, true);
    const model = { name: 'bounded', backend: 'module', path, maxBatchSize: 64, maxRunMs: 100, deadlineMs: 0 };
    const server = new ModelsServer(temporaryFolder(), [model]);
    const client = await server.client('bounded');
    client.send(...requests(40));
    const rows = rowsOfRuns(await client.replied(40));
    expect(Math.max(...rows)).to.be.within(2, 5);
    const told = await server.modelWhen('bounded', ({ answered }) => answered === 40);
    expect(told.max_rows_because).to.deep.equal(['more would take longer than maxRunMs (100)']);
  });

  it('are many of a small network, which stays on the event loop', async () => {
    const server = new ModelsServer(temporaryFolder(), [{ name: 'digits', path: `${root}config/models/digits` }]);
    const { models } = (await server.event('ready')) as unknown as { models: Readonly<Record<string, string>> };
    expect(models.digits).to.match(/, inline, .* ms a full batch of 256 \(auto takes no more\), /);
  });
});
