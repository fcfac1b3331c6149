import { expect } from 'chai';
import fc from 'fast-check';
import { Gathering } from '#src/inference/gathering.js';

interface Load {
  /** When requests come by themselves, whatever is answered. */
  readonly arrivals?: readonly number[];
  /** Clients that ask again about so long after their answer. */
  readonly clients?: number;
  readonly returnMs?: number;
  readonly perRunMs: number;
  readonly perRowMs: number;
  readonly mostRows?: number;
}

interface Result {
  readonly rows: number;
  readonly runs: number;
  /** The mean time from arrival to answer. */
  readonly meanMs: number;
  /** The longest time that the model stood still although a request waited. */
  readonly longestHoldMs: number;
  readonly heldMs: number;
}

/** A model that runs one batch at a time, on a virtual clock; without a Gathering, it runs what waits at once. */
function serve(load: Load, untilMs: number, gathering: Gathering | null): Result {
  const { clients = 0, returnMs = 0, perRunMs, perRowMs, mostRows = 64, arrivals = [] } = load;
  const coming = [...arrivals, ...Array.from({ length: clients }, (_, i) => i / 10)].sort((a, b) => a - b);
  let waiting: number[] = [];
  const result = { rows: 0, runs: 0, sumMs: 0, longestHoldMs: 0, heldMs: 0 };
  let now = 0;
  // No two clients are alike: without that, those that run together would come back at the same time for ever.
  let random = 1;
  const someTime = (): number => {
    random = (random * 48271) % 2147483647;
    return returnMs * (0.6 + (0.8 * random) / 2147483647);
  };
  const take = () => {
    while (coming.length > 0 && (coming[0] as number) <= now) waiting.push(coming.shift() as number);
  };
  while (now < untilMs) {
    take();
    if (waiting.length === 0) {
      if (coming.length === 0) break;
      now = coming[0] as number;
      continue;
    }
    const readyAt = now;
    for (;;) {
      const until = gathering?.holdUntil(waiting.length, mostRows) ?? 0;
      if (until <= now) break;
      now = Math.min(until, coming[0] ?? Number.POSITIVE_INFINITY);
      take();
    }
    result.longestHoldMs = Math.max(result.longestHoldMs, now - readyAt);
    result.heldMs += now - readyAt;
    const batch = waiting.slice(0, mostRows);
    waiting = waiting.slice(mostRows);
    gathering?.began(batch.length, batch.at(-1) as number, now);
    now += perRunMs + perRowMs * batch.length;
    take();
    let waitedMs = 0;
    for (const arrivedAt of batch) {
      waitedMs += now - arrivedAt;
      if (clients > 0) coming.push(now + someTime());
    }
    coming.sort((a, b) => a - b);
    result.rows += batch.length;
    result.runs++;
    result.sumMs += waitedMs;
    gathering?.answered({
      now,
      rows: batch.length,
      waitedMs,
      waiting: waiting.length,
      newestAt: waiting.at(-1) ?? now,
      runMs: perRunMs + perRowMs * (batch.length + waiting.length),
    });
  }
  return { ...result, meanMs: result.sumMs / result.rows };
}

describe('gathering clients that were just answered', () => {
  it('puts clients that are soon back into one run, where runs cost more than waiting', () => {
    const load = { clients: 4, returnMs: 0.3, perRunMs: 2, perRowMs: 2 };
    const before = serve(load, 30_000, null);
    const gathered = serve(load, 30_000, new Gathering());
    expect(before.rows / before.runs).to.be.below(2.1);
    expect(gathered.rows / gathered.runs).to.be.above(3.4);
    expect(gathered.rows).to.be.above(1.1 * before.rows);
  });

  it('waits for nobody where that gains nothing, once it has been tried', () => {
    const load = { clients: 4, returnMs: 2, perRunMs: 0.1, perRowMs: 2 };
    const before = serve(load, 60_000, null);
    const gathered = serve(load, 60_000, new Gathering());
    expect(gathered.rows).to.be.above(0.97 * before.rows);
  });

  it('waits for nobody where requests come by themselves', () => {
    const arrivals = Array.from({ length: 1000 }, (_, i) => 14 * i);
    const load = { arrivals, perRunMs: 1, perRowMs: 6 };
    expect(serve(load, 14_000, new Gathering())).to.deep.equal(serve(load, 14_000, null));
  });

  it('notices when clients begin to stay away longer, and when they are quick again', () => {
    const gathering = new Gathering();
    const quick = { clients: 4, returnMs: 0.3, perRunMs: 2, perRowMs: 2 };
    const slow = { ...quick, returnMs: 40 };
    serve(quick, 20_000, gathering);
    // Each load begins at 0 of its own clock: only times between the events of one count.
    const later = serve(slow, 60_000, gathering);
    expect(later.heldMs).to.be.below(0.01 * 60_000);
    const again = serve(quick, 30_000, gathering);
    expect(again.rows / again.runs).to.be.above(3.2);
  });

  it('never costs as much as a tenth, trials and all, and never holds a request for more than a third of a run', () => {
    const load = fc.record({
      clients: fc.integer({ min: 1, max: 24 }),
      returnMs: fc.double({ min: 0.05, max: 20, noNaN: true }),
      perRunMs: fc.double({ min: 0.05, max: 5, noNaN: true }),
      perRowMs: fc.double({ min: 0.05, max: 5, noNaN: true }),
      mostRows: fc.integer({ min: 1, max: 32 }),
    });
    fc.assert(
      fc.property(load, (given) => {
        const untilMs = 4000 * (given.perRunMs + given.perRowMs);
        const before = serve(given, untilMs, null);
        const gathered = serve(given, untilMs, new Gathering());
        expect(gathered.rows).to.be.above(0.9 * before.rows);
        const longestRunMs = given.perRunMs + given.perRowMs * Math.min(given.clients, 2 * given.mostRows);
        expect(gathered.longestHoldMs).to.be.at.most(longestRunMs / 3 + 1e-6);
      }),
    );
  });
});
