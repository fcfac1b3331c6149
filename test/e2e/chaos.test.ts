// A short run of what `npm run chaos` does for as long as one likes.

import { expect } from 'chai';
import { runChaos } from '../chaos/chaos.js';
import { endProcesses } from '../support/processes.js';

describe('chaos', () => {
  afterEach(endProcesses);

  it('of twenty seconds leaves every promise kept (seed 11)', async function () {
    this.timeout(150_000);
    const said: string[] = [];
    const { faults, replies, events } = await runChaos({ seconds: 20, seed: 11, say: (line) => said.push(line) });
    expect(faults, `${faults.join('\n')}\n${said.join('\n')}`).to.deep.equal([]);
    expect(events).to.be.above(10);
    expect(replies).to.be.above(2000);
  });
});
