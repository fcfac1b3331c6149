import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { pino } from 'pino';
import { noneFolded } from '#src/metrics/snapshot.js';
import { Ledger } from '#src/primary/metrics/ledger.js';
import { NodeRecordKeeper, type RunCounts } from '#src/primary/metrics/node-record.js';
import { temporaryFolder } from '../../../support/folder.js';
import { countsOf } from '../../../support/records.js';

const logged: { level: number; msg: string }[] = [];
const log = pino({}, { write: (line: string) => void logged.push(JSON.parse(line)) });
const owner = (run: string, node = 'a') => ({ cluster: 'c', node, run });

function open(folder: string, run: string, node = 'a'): Promise<Ledger> {
  return Ledger.open(folder, owner(run, node), log);
}

function counted(run: string, received: number, contains: RunCounts['contains'] = []): RunCounts {
  return { run, departed: countsOf({ received }), folded: noneFolded, contains, restarts: 1 };
}

const received = ({ departed }: RunCounts): number => departed.models.m?.received ?? 0;
const sum = (runs: readonly RunCounts[]): number => runs.reduce((all, run) => all + received(run), 0);
const names = (folder: string): readonly string[] => readdirSync(folder).sort();

describe('the ledger of a node', () => {
  beforeEach(() => {
    logged.length = 0;
  });

  it('hands what a run counted to the next run of the node, and leaves one file', async () => {
    const folder = temporaryFolder();
    const first = await open(folder, 'r1');
    first.save(counted('r1', 5));
    first.save(counted('r1', 7));
    first.close();
    const second = await open(folder, 'r2');
    const claimed = await second.claim();
    expect(claimed.map(received)).to.deep.equal([7]);
    expect(claimed[0]).to.deep.include({ run: 'r1', folded: noneFolded, restarts: 1 });
    expect(second.save(counted('r2', 7, [{ run: 'r1', ...noneFolded }]))).to.equal(true);
    second.close();
    expect(names(folder)).to.deep.equal(['r2.ledger']);
  });

  it('is left alone while its primary lives, and by other nodes and clusters', async () => {
    const folder = temporaryFolder();
    const living = await open(folder, 'r1');
    living.save(counted('r1', 5));
    const second = await open(folder, 'r2');
    expect(await second.claim()).to.deep.equal([]);
    living.close();
    expect(await (await open(folder, 'r3', 'b')).claim()).to.deep.equal([]);
    expect(sum(await second.claim())).to.equal(5);
  });

  it('is held as before by a primary that has taken over another', async () => {
    const folder = temporaryFolder();
    const first = await open(folder, 'r1');
    first.save(counted('r1', 5));
    first.close();
    const second = await open(folder, 'r2');
    await second.claim();
    second.save(counted('r2', 5, [{ run: 'r1', ...noneFolded }]));
    const rival = await open(folder, 'r3');
    expect(await rival.claim()).to.deep.equal([]);
    second.close();
    expect((await rival.claim()).map(({ run }) => run)).to.deep.equal(['r2']);
  });

  it('is counted once where one was claimed, and its run has written it again', async () => {
    const folder = temporaryFolder();
    const first = await open(folder, 'r1');
    first.save(counted('r1', 5));
    copyFileSync(join(folder, 'r1.ledger'), join(folder, 'r1@r0.ledger'));
    first.save(counted('r1', 7));
    first.close();
    const second = await open(folder, 'r2');
    expect((await second.claim()).map(received)).to.deep.equal([7]);
    expect(await second.claim()).to.deep.equal([]);
    second.save(counted('r2', 7, [{ run: 'r1', ...noneFolded }]));
    expect(await second.claim()).to.deep.equal([]);
    second.close();
    expect(names(folder)).to.deep.equal(['r2.ledger']);
  });

  it('goes to one of those who start at the same time', async () => {
    const folder = temporaryFolder();
    for (const run of ['r1', 'r2', 'r3']) {
      const ledger = await open(folder, run);
      ledger.save(counted(run, 1));
      ledger.close();
    }
    const rivals = await Promise.all(['s1', 's2', 's3', 's4'].map((run) => open(folder, run)));
    const claimed = await Promise.all(rivals.map((rival) => rival.claim()));
    expect(sum(claimed.flat())).to.equal(3);
    for (const rival of rivals) rival.close();
  });

  it('is read again when its holder was killed before it had saved what it claimed', async () => {
    const folder = temporaryFolder();
    for (const run of ['r1', 'r2', 'r3', 'r4']) {
      const ledger = await open(folder, run);
      expect(sum(await ledger.claim())).to.equal(run === 'r1' ? 0 : 5);
      if (run === 'r1') ledger.save(counted('r1', 5));
      ledger.close();
    }
  });

  it('is set aside when it is broken and names our node, and told of; what is not ours stays, and stops nobody', async () => {
    const folder = temporaryFolder();
    const good = await open(folder, 'good');
    good.save(counted('good', 5));
    good.close();
    const whole = readFileSync(join(folder, 'good.ledger'), 'utf8');
    const broken = {
      truncated: whole.slice(0, -20),
      changed: whole.replace('"received":5', '"received":6'),
      renamed: whole,
    };
    const notOurs = {
      empty: '',
      garbage: '\0\u{1f600}{[',
      object: '{}',
      newer: whole.replace('"format":1', '"format":2'),
      others: whole.slice(0, -20).replace('"node":"a"', '"node":"b"'),
      elsewhere: whole.slice(0, -20).replace('"cluster":"c"', '"cluster":"d"'),
    };
    for (const [run, text] of Object.entries({ ...broken, ...notOurs }))
      writeFileSync(join(folder, `${run}.ledger`), text);
    const next = await open(folder, 'next');
    expect(sum(await next.claim())).to.equal(5);
    expect(next.save(counted('next', 5))).to.equal(true);
    const aside = Object.keys(broken).map((run) => `${run}.ledger.unreadable`);
    expect(names(folder).filter((name) => name.endsWith('.unreadable'))).to.have.members(aside);
    expect(logged.filter(({ msg }) => msg.includes('cannot be read and is set aside'))).to.have.lengthOf(aside.length);
    expect(names(folder)).to.include.members(Object.keys(notOurs).map((run) => `${run}.ledger`));
  });

  it('removes the oldest where there are too many, those set aside among them', async () => {
    const folder = temporaryFolder();
    for (let i = 1; i <= 1002; i++) {
      const file = join(folder, `r${i}.ledger.unreadable`);
      writeFileSync(file, '');
      utimesSync(file, i, i);
    }
    await (await open(folder, 'next')).claim();
    expect(names(folder).filter((name) => name.endsWith('.unreadable'))).to.have.lengthOf(1000);
    expect(names(folder)).to.not.include.members(['r1.ledger.unreadable', 'r2.ledger.unreadable']);
  });

  it('says at once why it cannot be kept in a folder', async () => {
    for (const folder of ['/proc/none', '/dev/null/ledgers']) {
      const reason = await Ledger.open(folder, owner('r'), log).then(
        () => 'none',
        (error: Error) => error.message,
      );
      expect(reason).to.match(/ENOENT|ENOTDIR|EEXIST/);
    }
  });

  it('tells once that it cannot be written, and when it can again', async () => {
    const folder = temporaryFolder();
    const ledger = await open(folder, 'r');
    mkdirSync(join(folder, 'r.ledger.tmp'));
    expect([1, 2, 3].map((n) => ledger.save(counted('r', n)))).to.deep.equal([false, false, false]);
    expect(logged.map(({ msg }) => msg.split(':')[0])).to.deep.equal(['ledger not written']);
    rmSync(join(folder, 'r.ledger.tmp'), { recursive: true });
    expect(ledger.save(counted('r', 4))).to.equal(true);
    expect(logged.at(-1)?.msg).to.equal('ledger written again');
  });

  it('counts each run once, whenever primaries are killed, and however many start at once', async () => {
    const killed = fc.constantFrom('before it saved', 'before it removed anything', 'after it removed one', 'later');
    const generation = fc.array(fc.record({ killed, adds: fc.nat(50) }), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(generation, { minLength: 1, maxLength: 5 }), async (generations) => {
        const folder = temporaryFolder();
        let truth = 0;
        let runs = 0;
        for (const primaries of generations) {
          const started = await Promise.all(
            primaries.map(async (primary) => {
              const run = `r${++runs}`;
              const ledger = await open(folder, run);
              const record = new NodeRecordKeeper({ node: 'a', run, version: '' });
              for (const earlier of await ledger.claim()) record.contain(earlier);
              return { ...primary, run, ledger, record };
            }),
          );
          for (const { killed, adds, run, ledger, record } of started) {
            if (killed !== 'before it saved') {
              const claimed = names(folder).filter((name) => name.endsWith(`@${run}.ledger`));
              const copies = claimed.slice(killed === 'after it removed one' ? 1 : 0);
              for (const name of copies) copyFileSync(join(folder, name), join(folder, `${name}.copy`));
              ledger.save(record.counts);
              for (const name of copies) {
                // As if it had been killed before it could remove this one.
                if (killed !== 'later') copyFileSync(join(folder, `${name}.copy`), join(folder, name));
                rmSync(join(folder, `${name}.copy`));
              }
              record.fold(1, countsOf({ received: adds }));
              truth += adds;
              ledger.save(record.counts);
            }
            ledger.close();
          }
        }
        const last = await open(folder, 'last');
        expect(sum(await last.claim())).to.equal(truth);
        last.close();
        rmSync(folder, { recursive: true });
      }),
      { numRuns: 25 },
    );
  });
});
