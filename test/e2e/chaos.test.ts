// A short night of what `npm run chaos` does for as long as one likes.

import { expect } from 'chai';
import { runChaos } from '../chaos/chaos.js';
import { endProcesses } from '../support/processes.js';

describe('chaos', () => {
  afterEach(endProcesses);

  for (const seed of [11, 12]) {
    it(`of ten seconds leaves every promise kept (seed ${seed})`, async function () {
      this.timeout(120_000);
      const said: string[] = [];
      const { faults, replies, events } = await runChaos({ seconds: 10, seed, say: (line) => said.push(line) });
      expect(faults, `${faults.join('\n')}\n${said.join('\n')}`).to.deep.equal([]);
      expect(events).to.be.above(5);
      expect(replies).to.be.above(1000);
    });
  }
});
