// Requests are admitted by the time that they are likely to wait, whatever comes when, and whatever a run costs.

import { install } from '@sinonjs/fake-timers';
import { expect } from 'chai';
import fc from 'fast-check';
import { type Fate, type VirtualOptions, VirtualServer } from '../../support/virtual-serving.js';

type Options = VirtualOptions & { readonly deadlineMs: number };

/** A full run takes at most a quarter of the deadline. */
const anyOptions: fc.Arbitrary<Options> = fc
  .record({
    rows: fc.integer({ min: 1, max: 40 }),
    perRunMs: fc.integer({ min: 200, max: 2000 }),
    perRowMs: fc.nat({ max: 200 }),
    concurrency: fc.integer({ min: 1, max: 3 }),
    times: fc.integer({ min: 4, max: 12 }),
  })
  .map(({ times, ...options }) => ({ ...options, deadlineMs: times * fullMs(options) }));

const fullMs = ({ rows, perRunMs, perRowMs }: Omit<VirtualOptions, 'concurrency'>): number =>
  perRunMs + perRowMs * rows;

/** How much of the deadline is kept for the way to the client; and turns of the event loop, each a millisecond here. */
const marginMs = ({ deadlineMs }: Options): number => deadlineMs / 20 + 20;

/** Has `act` send, and serves to the end. */
async function served(options: Options, act: (server: VirtualServer) => void): Promise<VirtualServer> {
  const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
  try {
    const server = new VirtualServer(clock, options);
    act(server);
    await clock.runAllAsync();
    return server;
  } finally {
    clock.uninstall();
  }
}

const isRefused = ({ outcome }: Fate): boolean => outcome === 'refusedOverloaded';

describe('admission by the time that a request would wait', () => {
  const bursts = fc.array(
    fc.record({
      atMs: fc.nat({ max: 15_000 }),
      client: fc.nat({ max: 3 }),
      requests: fc.integer({ min: 1, max: 400 }),
    }),
    { maxLength: 10 },
  );

  it('refuses at once, and answers nobody late', async () => {
    await fc.assert(
      fc.asyncProperty(anyOptions, bursts, async (options, all) => {
        const { fates } = await served(options, (server) => {
          const clients = Array.from({ length: 4 }, () => server.client());
          for (const { atMs, client, requests } of all) setTimeout(() => clients[client]?.send(requests), atMs);
        });
        for (const fate of fates) {
          expect(fate.outcome).to.be.oneOf(['answered', 'expired', 'refusedOverloaded']);
          const tookMs = (fate.endedAt as number) - fate.arrivedAt;
          expect(tookMs).to.be.at.most(options.deadlineMs * 1.25);
          if (fate.outcome === 'answered') expect(tookMs).to.be.at.most(options.deadlineMs);
          if (fate.runs === 0) continue;
          expect(fate.outcome).to.equal('answered');
        }
      }),
      { numRuns: 25 },
    );
  });

  it('of one client admits exactly what is in time: that is all answered, and what is refused would have been late', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyOptions,
        fc.array(fc.tuple(fc.nat({ max: 10_000 }), fc.integer({ min: 1, max: 400 })), { minLength: 1, maxLength: 8 }),
        async (options, all) => {
          const { fates } = await served(options, (server) => {
            const client = server.client();
            for (const [atMs, requests] of all) setTimeout(() => client.send(requests), atMs);
          });
          let busyUntil = 0;
          for (const fate of fates) {
            if (!isRefused(fate)) {
              expect(fate.outcome).to.equal('answered');
              busyUntil = Math.max(busyUntil, fate.endedAt as number);
              continue;
            }
            // Had it been admitted, it would have shared the last run, or had one more after it.
            const wouldEnd = busyUntil + fullMs(options);
            expect(wouldEnd).to.be.above(fate.arrivedAt + options.deadlineMs - marginMs(options) - fullMs(options));
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('says when a request is in time again: not much before, and surely then', async () => {
    await fc.assert(
      fc.asyncProperty(anyOptions, async (options) => {
        let refused: Fate | null = null;
        const { fates } = await served(options, (server) => {
          const client = server.client();
          client.onEnd = (fate) => {
            if (refused !== null || !isRefused(fate)) return;
            refused = fate;
            const earlyMs = fate.retryAfterMs - fullMs(options) - marginMs(options);
            if (earlyMs > 0) setTimeout(() => client.send(1), earlyMs);
            setTimeout(() => client.send(1), Math.ceil(fate.retryAfterMs) + 1);
          };
          // More than can be served by the deadline.
          client.send(Math.ceil((2 * options.deadlineMs * options.concurrency * options.rows) / fullMs(options)));
        });
        const { retryAfterMs, arrivedAt } = refused as unknown as Fate;
        expect(retryAfterMs).to.be.above(0);
        const [last, early] = fates.filter((fate) => fate.arrivedAt > arrivedAt).reverse();
        expect(last?.outcome).to.equal('answered');
        if (early !== undefined) expect(early.outcome).to.equal('refusedOverloaded');
      }),
      { numRuns: 25 },
    );
  });

  it('refuses nothing while nothing waits or runs, however slow the model is believed to be', async () => {
    const options = { rows: 4, perRunMs: 500, perRowMs: 0, concurrency: 1, deadlineMs: 100 };
    const { fates } = await served(options, (server) => {
      const client = server.client();
      for (let i = 0; i < 5; i++) setTimeout(() => client.send(1), 600 * i);
      setTimeout(() => client.send(1), 700);
    });
    expect(fates.map(({ outcome }) => outcome)).to.deep.equal([
      ...Array(2).fill('answered'),
      'refusedOverloaded',
      ...Array(3).fill('answered'),
    ]);
  });

  it('tells what a new client would wait: for its turn, not for all that others have sent', async () => {
    const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
    try {
      const options = { rows: 8, perRunMs: 10, perRowMs: 0, concurrency: 1, deadlineMs: 5000 };
      const server = new VirtualServer(clock, options);
      expect(server.batcher.predictedWaitMs).to.equal(0);
      server.client().send(800);
      await clock.tickAsync(4);
      // The rest of the run under way; the others are in the line, where a new client is second.
      expect(server.batcher.predictedWaitMs).to.be.closeTo(6, 1e-6);
      for (let i = 0; i < 16; i++) server.client().send(1);
      expect(server.batcher.predictedWaitMs).to.be.closeTo(6 + 2 * 10, 1e-6);
      await clock.runAllAsync();
      expect(server.batcher.predictedWaitMs).to.equal(0);
    } finally {
      clock.uninstall();
    }
  });

  it('counts no row whose client has gone', async () => {
    const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
    try {
      const server = new VirtualServer(clock, { rows: 8, perRunMs: 10, perRowMs: 0, concurrency: 1, deadlineMs: 5000 });
      server.client().send(100);
      await clock.tickAsync(4);
      const others = Array.from({ length: 80 }, () => server.client());
      for (const client of others) client.send(1);
      expect(server.batcher.predictedWaitMs).to.be.closeTo(6 + 100, 1e-6);
      for (const client of others) client.close();
      expect(server.batcher.predictedWaitMs).to.be.closeTo(6, 1e-6);
      await clock.runAllAsync();
    } finally {
      clock.uninstall();
    }
  });
});

describe('a run', () => {
  it('has no more rows than are answered in time, when runs have become slower than they were', async () => {
    // Sixteen rows would take 320 ms; after half of the deadline, five are in time.
    const options = { rows: 16, perRunMs: 0, perRowMs: 20, concurrency: 1, deadlineMs: 200 };
    const server = await served(options, (virtual) => {
      virtual.client().send(5);
      setTimeout(() => virtual.client().send(4), 50);
    });
    expect(server.fates.map(({ outcome }) => outcome)).to.deep.equal(Array(9).fill('answered'));
    for (const { arrivedAt, endedAt } of server.fates) expect((endedAt as number) - arrivedAt).to.be.at.most(200);
  });
});
