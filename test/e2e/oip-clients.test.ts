// Clients that others made: what Python's ask and check, and the load generator that refuses to measure when the server
// tells less than it wants to know. `npm run peers` runs more of them.

import { expect } from 'chai';
import { perfAnalyzer, perfAnalyzerModes, whyNoPerfAnalyzer } from '../support/peers/perf-analyzer.js';
import { checksOf, type PythonClient, pythonClients, whyNoPythonClients } from '../support/peers/python-clients.js';
import { PeersServer } from '../support/peers/serving.js';
import { endProcesses } from '../support/processes.js';
import { skip } from '../support/skip.js';

describe('clients of the Open Inference Protocol', () => {
  let server: PeersServer;
  before(async function () {
    this.timeout(60_000);
    server = new PeersServer();
    // Two workers load some thirty models.
    await server.line('the event "ready"', (line) => line.includes('"msg":"ready"'), 60_000);
  });
  after(endProcesses);

  for (const [client, name] of Object.entries(pythonClients)) {
    it(`${name} finds all as it expects it`, async function () {
      this.timeout(60_000);
      const missing = whyNoPythonClients();
      if (missing !== null) skip(this, missing);
      const checks = await checksOf(client as PythonClient, await server.address());
      expect(checks.flatMap(({ name: promise, why }) => (why === null ? [] : [`${promise}: ${why}`]))).to.deep.equal(
        [],
      );
    });
  }

  const quick: readonly (keyof typeof perfAnalyzerModes)[] = [
    'gRPC, 16 at once',
    'gRPC, a stream of 4',
    'HTTP, batches of 4',
    'HTTP, JSON',
  ];
  for (const mode of quick) {
    it(`perf_analyzer measures ${mode}`, async function () {
      this.timeout(60_000);
      const missing = whyNoPerfAnalyzer();
      if (missing !== null) skip(this, missing);
      const args: readonly string[] = perfAnalyzerModes[mode];
      const { why, requests, inferences } = await perfAnalyzer(await server.address(), 'network', args);
      expect(why).to.equal(null);
      // It subtracts two answers of ours, which it gets a little later than its windows begin and end: see the check of
      // statistics in triton_http.py for exact numbers.
      const rows = args.includes('-b') ? 4 : 1;
      expect(inferences).to.be.at.least(0.5 * rows * requests);
      expect(inferences % rows).to.equal(0);
    });
  }
});
