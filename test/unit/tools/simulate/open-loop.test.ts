import { expect } from 'chai';
import fc from 'fast-check';
import { realClock, runOpenLoop } from '#src/tools/simulate/open-loop.js';

describe('requests at a rate', () => {
  it('are all sent, in order, never before they are due, whatever timers do', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 100 }),
        fc.double({ min: 5, max: 1e6, noNaN: true }),
        fc.array(fc.double({ min: -2, max: 30, noNaN: true }), { minLength: 1, maxLength: 20 }),
        async (requests, ratePerSecond, errors) => {
          let now = 1000;
          let passes = 0;
          const pass = async (ms: number): Promise<void> => {
            // The timer is early or late by this much; a turn of the loop takes at least some microseconds.
            now += Math.max(0.05, ms + (errors[passes++ % errors.length] as number));
          };
          const clock = { now: () => now, turn: () => pass(0), sleep: pass };
          const sent: number[] = [];
          await runOpenLoop({
            requests,
            ratePerSecond,
            clock,
            send: (i, dueAt) => {
              const isRight = i === sent.length && dueAt === 1000 + (i * 1000) / ratePerSecond && now >= dueAt;
              if (!isRight) throw new Error(`request ${i}, due at ${dueAt}, was sent at ${now}`);
              sent.push(now);
              return true;
            },
          });
          expect(sent).to.have.lengthOf(requests);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('let replies be read between bursts when they are late, and make up for it', async () => {
    let now = 0;
    let turns = 0;
    const clock = {
      now: () => now,
      turn: async () => {
        turns++;
        now += 0.01;
      },
      sleep: async () => {
        now += 1000; // the process was stopped
      },
    };
    const lateness: number[] = [];
    const send = (_: number, dueAt: number): boolean => {
      lateness.push(now - dueAt);
      return true;
    };
    await runOpenLoop({ requests: 1000, ratePerSecond: 100, clock, send });
    expect(Math.max(...lateness)).to.be.within(900, 1100);
    expect(turns).to.be.above(0);
  });

  it('end when there is nobody left to send by', async () => {
    let sent = 0;
    await runOpenLoop({ requests: 100, ratePerSecond: 1e6, clock: realClock, send: () => ++sent < 5 });
    expect(sent).to.equal(5);
  });
});
