import { expect } from 'chai';
import fc from 'fast-check';
import { clientErrors, reasonOf } from '#src/errors.js';
import { type Rejection, RejectionLog, type RejectionReason } from '#src/worker/rejection-log.js';
import { withClock } from '../../support/clock.js';

const one: Rejection = { client: '10.0.0.7', protocol: 'frames', model: 'm', reason: 'BAD_INPUT', detail: 'd' };

describe('the log of rejections', () => {
  const clock = withClock();
  let lines: Record<string, unknown>[];
  const open = (kept = 20, publishIntervalMs = 250): RejectionLog => {
    lines = [];
    const debug = (fields: object) => void lines.push(fields as Record<string, unknown>);
    return new RejectionLog({ kept, publishIntervalMs, log: { debug } as never });
  };
  const published = (log: RejectionLog) => log.recent() ?? [];

  it('keeps the last one of each kind, the oldest first, and no more than it may', () => {
    const log = open(3);
    for (const client of ['a', 'b', 'c', 'a', 'd']) {
      clock().tick(10);
      log.note({ ...one, client, detail: `at ${performance.now()}` });
    }
    expect(published(log).map(({ client, detail, uptimeMs }) => [client, detail, uptimeMs])).to.deep.equal([
      ['c', 'at 1030', 1030],
      ['a', 'at 1040', 1040],
      ['d', 'at 1050', 1050],
    ]);
  });

  it('takes a few of a reason at once and then one a second, and says how many requests it left out', () => {
    const log = open();
    for (let i = 0; i < 1000; i++)
      if (log.isOpen('QUEUE_FULL', performance.now(), 7)) log.note({ ...one, reason: 'QUEUE_FULL' });
    expect(lines.map(({ leftOut }) => leftOut)).to.deep.equal([0, 0, 0, 0, 0]);
    log.note(one);
    expect(lines).to.have.lengthOf(6, 'another reason has its own measure');
    clock().tick(999);
    expect(log.isOpen('QUEUE_FULL', performance.now(), 5)).to.equal(false);
    clock().tick(1);
    log.note({ ...one, reason: 'QUEUE_FULL' });
    expect(lines.at(-1)).to.include({ reason: 'QUEUE_FULL', leftOut: 995 * 7 + 5 });
    clock().tick(60_000);
    for (let i = 0; i < 100; i++) log.note({ ...one, reason: 'QUEUE_FULL' });
    expect(lines).to.have.lengthOf(12);
  });

  it('publishes one for so long that no aggregator that reads misses it, and then no more', () => {
    for (const [publishIntervalMs, travelMs] of [
      [250, 10_000],
      [60_000, 240_000],
    ] as const) {
      const log = open(20, publishIntervalMs);
      expect(log.recent()).to.equal(undefined);
      log.note(one);
      clock().tick(travelMs - 1);
      expect(published(log)).to.have.lengthOf(1);
      clock().tick(1);
      expect(log.recent()).to.equal(undefined);
      log.note(one);
      expect(published(log)).to.have.lengthOf(1);
    }
  });

  it('with none to keep, takes none and writes no line', () => {
    const log = open(0);
    expect(log.isOpen('BAD_INPUT', performance.now())).to.equal(false);
    log.note(one);
    expect([lines, log.recent()]).to.deep.equal([[], undefined]);
  });

  it('is bounded whatever comes: in number, in the length of each text, in lines a second; and texts are one line', () => {
    const texts = fc.string({ unit: 'binary', maxLength: 2000 });
    const rejection = fc.record({
      client: texts,
      protocol: texts,
      model: texts,
      reason: fc.constantFrom(...(Object.keys(clientErrors) as RejectionReason[])),
      detail: texts,
    });
    fc.assert(
      fc.property(fc.array(rejection, { maxLength: 60 }), fc.integer({ min: 1, max: 20 }), (all, kept) => {
        const log = open(kept);
        for (const next of all) log.note(next);
        expect(published(log).length).to.be.at.most(kept);
        for (const reason of Object.keys(clientErrors))
          expect(lines.filter((line) => line.reason === reason).length).to.be.at.most(5);
        expect(Buffer.byteLength(JSON.stringify(published(log)))).to.be.at.most(2 + kept * 1600);
        for (const { client, protocol, model, detail } of published(log)) {
          expect([
            client.length <= 64,
            protocol.length <= 16,
            model.length <= 100,
            detail.length <= 200,
          ]).to.not.include(false);
          expect(client + protocol + model + detail).to.not.match(/[\p{Cc}\p{Zl}\p{Zp}]/u);
        }
      }),
    );
  });

  it('knows a reason for each counter of a refusal or a failure', () => {
    for (const { counter } of Object.values(clientErrors))
      expect(clientErrors[reasonOf[counter]].counter, counter).to.equal(counter);
  });
});
