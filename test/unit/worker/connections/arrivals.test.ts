import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import type { FromWorker } from '#src/ipc/messages.js';
import type { RawHandle } from '#src/net/raw-handle.js';
import { Arrivals } from '#src/worker/connections/arrivals.js';

const arrival = { listener: 0, decision: 'granted', address: '10.0.0.7' } as const;
const handle = {} as RawHandle;

/** @param hasLeft when each message has left, in turn */
function worker(...hasLeft: readonly Promise<void>[]) {
  const sent: FromWorker[] = [];
  const arrivals = new Arrivals((message) => hasLeft[sent.push(message) - 1] ?? Promise.resolve());
  let served = 0;
  arrivals.onServe = () => {
    served++;
  };
  return { arrivals, sent, served: () => served };
}

describe('connections that come to a worker', () => {
  it('are served when the primary has been told of them, and not before', async () => {
    let leave = (): void => {};
    const { arrivals, sent, served } = worker(
      new Promise((resolve) => {
        leave = resolve;
      }),
    );
    arrivals.arrive(arrival, handle);
    arrivals.arrive(arrival, null);
    await turn();
    await turn();
    expect(sent).to.deep.equal([{ kind: 'connections', acknowledged: 2, released: [] }]);
    expect([served(), arrivals.pending]).to.deep.equal([0, 2]);
    leave();
    await turn();
    expect([served(), arrivals.pending]).to.deep.equal([2, 0]);
  });

  it('cost one message a turn, with the places of those that have ended', async () => {
    const { arrivals, sent, served } = worker();
    for (let i = 0; i < 5; i++) arrivals.arrive(arrival, handle);
    arrivals.release('a');
    arrivals.release('b');
    await turn();
    arrivals.release('c');
    await turn();
    expect(sent).to.deep.equal([
      { kind: 'connections', acknowledged: 5, released: ['a', 'b'] },
      { kind: 'connections', acknowledged: 0, released: ['c'] },
    ]);
    expect(served()).to.equal(5);
  });

  it('are left alone when the primary is gone: nobody knows who has them', async () => {
    const failure = Promise.reject(new Error('the channel is closed'));
    failure.catch(() => {}); // nothing waits for it before the next turn
    const { arrivals, served } = worker(failure);
    arrivals.arrive(arrival, handle);
    await turn();
    await turn();
    expect(served()).to.equal(0);
  });
});
