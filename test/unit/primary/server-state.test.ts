import { expect } from 'chai';
import fc from 'fast-check';
import { type ServerPhase, ServerState } from '#src/primary/server-state.js';

describe('the state of the server', () => {
  const stateAfter = (...phases: ServerPhase[]): ServerState => {
    const state = new ServerState();
    for (const phase of phases) state.enter(phase);
    return state;
  };

  it('goes from starting to serving to draining', () => {
    const state = new ServerState();
    expect([state.phase, state.isEnding, state.hasServed]).to.deep.equal(['starting', false, false]);
    expect(state.enter('serving')).to.equal(true);
    expect([state.phase, state.isEnding, state.hasServed]).to.deep.equal(['serving', false, true]);
    expect(state.enter('draining')).to.equal(true);
    expect([state.phase, state.isEnding, state.hasServed]).to.deep.equal(['draining', true, true]);
  });

  it('is ready once: what is ready again is no news', () => {
    expect(stateAfter('serving').enter('serving')).to.equal(false);
  });

  it('never becomes ready when it ends before that', () => {
    for (const end of ['draining', 'failed'] as const) {
      const state = stateAfter(end, 'serving');
      expect([state.phase, state.hasServed]).to.deep.equal([end, false]);
    }
  });

  it('ends in one way, whatever happens after that', () => {
    const phase = fc.constantFrom<ServerPhase>('starting', 'serving', 'draining', 'failed');
    fc.assert(
      fc.property(fc.array(phase), (phases) => {
        const state = stateAfter(...phases);
        const end = phases.find((one) => one === 'draining' || one === 'failed');
        expect(state.isEnding).to.equal(end !== undefined);
        expect(state.phase).to.equal(end ?? (phases.includes('serving') ? 'serving' : 'starting'));
      }),
    );
  });
});
