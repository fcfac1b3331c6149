// Clients that send little beside clients that send much, whatever they send when, and whatever a run costs.

import { type Clock, install } from '@sinonjs/fake-timers';
import { expect } from 'chai';
import fc from 'fast-check';
import { type Fate, type VirtualOptions, VirtualServer } from '../../support/virtual-serving.js';

interface Burst {
  readonly atMs: number;
  readonly client: number;
  readonly requests: number;
}

const costs = fc.record({
  rows: fc.integer({ min: 1, max: 64 }),
  perRunMs: fc.integer({ min: 1, max: 20 }),
  perRowMs: fc.nat({ max: 4 }),
  concurrency: fc.integer({ min: 1, max: 3 }),
});
const bursts = (clients: number, most: number): fc.Arbitrary<readonly Burst[]> =>
  fc.array(
    fc.record({
      atMs: fc.nat({ max: 200 }),
      client: fc.nat({ max: clients - 1 }),
      requests: fc.integer({ min: 1, max: most }),
    }),
    { maxLength: 12 },
  );

/** Serves all bursts to the end; `also` may make more happen. */
async function served(
  options: VirtualOptions,
  all: readonly Burst[],
  also: (server: VirtualServer, clock: Clock) => void = () => {},
): Promise<VirtualServer> {
  const clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate'], loopLimit: 1e6 });
  try {
    const server = new VirtualServer(clock, options);
    for (let i = 0; i < 4; i++) server.client();
    for (const { atMs, client, requests } of all) setTimeout(() => server.clients[client]?.send(requests), atMs);
    also(server, clock);
    await clock.runAllAsync();
    return server;
  } finally {
    clock.uninstall();
  }
}

/** Milliseconds until `rows` that go before a request have been taken, and the request with them. */
function boundMs({ rows, perRunMs, perRowMs }: VirtualOptions, before: number): number {
  return (perRunMs + perRowMs * rows) * (1 + Math.ceil(before / rows)) + 1e-6;
}

describe('requests of many clients', () => {
  it('are all run once, those of a client in order, and answered in order', async () => {
    await fc.assert(
      fc.asyncProperty(costs, bursts(4, 400), async (options, all) => {
        const server = await served(options, all);
        for (const client of server.clients) {
          expect(client.fates.every(({ outcome, runs }) => outcome === 'answered' && runs === 1)).to.equal(true);
          const order = server.runs.flat().filter((fate) => fate.client === client);
          expect(order.map(({ number }) => number)).to.deep.equal(client.fates.map(({ number }) => number));
        }
        expect(server.runs.every(({ length }) => length <= options.rows)).to.equal(true);
        expect(server.batcher.queuedRows).to.equal(0);
      }),
      { numRuns: 25 },
    );
  });

  it('wait for one that sends much no longer than for a turn of it: a light client is run within the bound', async () => {
    await fc.assert(
      fc.asyncProperty(
        costs,
        bursts(3, 1000),
        fc.array(fc.nat({ max: 400 }), { maxLength: 6 }),
        async (options, all, at) => {
          const lights: Fate[] = [];
          await served(options, all, (server) => {
            for (const atMs of at)
              setTimeout(() => {
                const client = server.client();
                client.send(1);
                lights.push(client.fates[0] as Fate);
              }, atMs);
          });
          const { rows, perRunMs, perRowMs } = options;
          const fullMs = perRunMs + perRowMs * rows;
          const shared = Math.max(rows, Math.floor((2 * rows) / fullMs));
          const others = (3 + at.length) * Math.max(1, Math.floor(rows / 8));
          for (const { arrivedAt, startedAt } of lights)
            expect((startedAt as number) - arrivedAt).to.be.at.most(boundMs(options, shared + others));
        },
      ),
      { numRuns: 25 },
    );
  });

  it('that ask again as soon as they are answered get their share, and leave others theirs', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.integer({ min: 1, max: 30 }), async (options, clients) => {
        // Nobody has the line for himself: the greedy one is served too, though others never stop asking.
        let asked = 0;
        const server = await served(options, [{ atMs: 1, client: 0, requests: 800 }], (virtual) => {
          for (let i = 0; i < clients; i++) {
            const client = virtual.client();
            client.onEnd = () => {
              if ((virtual.clients[0]?.requests.inFlight ?? 0) > 0 && asked++ < 20_000) client.send(1);
            };
            setTimeout(() => client.send(1), 2);
          }
        });
        const [greedy, ...others] = server.clients;
        const turn = Math.max(1, Math.floor(options.rows / 8));
        const until = greedy?.fates.at(-1)?.startedAt as number;
        const share = others
          .flatMap(({ fates }) => fates)
          .filter(({ startedAt }) => startedAt !== null && startedAt < until).length;
        // Each light one gets at most one request a turn of the greedy one, beside what all shared at first.
        const shared = Math.max(
          options.rows,
          (2 * options.rows) / (options.perRunMs + options.perRowMs * options.rows),
        );
        expect(share).to.be.at.most(clients * (800 / turn + 2) + shared);
      }),
      { numRuns: 10 },
    );
  });

  it('cost no run once their client has gone or their deadline has passed', async () => {
    await fc.assert(
      fc.asyncProperty(
        costs,
        bursts(4, 400),
        fc.array(fc.nat({ max: 300 }), { maxLength: 4 }),
        async (options, all, at) => {
          const closedAt = new Map<number, number>();
          const deadlineMs = 100;
          const server = await served({ ...options, deadlineMs, isKnown: false }, all, ({ clients }, clock) => {
            for (const [client, atMs] of at.entries())
              setTimeout(() => {
                closedAt.set(client, clock.now);
                clients[client]?.close();
              }, atMs);
          });
          for (const [i, { fates }] of server.clients.entries())
            for (const { arrivedAt, startedAt, runs, outcome } of fates) {
              expect(runs).to.be.at.most(1);
              if (startedAt !== null) {
                expect(startedAt).to.be.at.most(closedAt.get(i) ?? Number.POSITIVE_INFINITY);
                expect(startedAt - arrivedAt).to.be.at.most(deadlineMs);
              }
              if (!closedAt.has(i))
                expect(outcome).to.be.oneOf(runs === 1 ? ['answered'] : ['expired', 'refusedOverloaded']);
            }
          expect(server.batcher.queuedRows).to.equal(0);
        },
      ),
      { numRuns: 25 },
    );
  });
});
