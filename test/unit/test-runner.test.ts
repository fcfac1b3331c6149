// What `npm test` does for contributors: which tests run, what may be wrong, and what a failure shows.

import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, isRunning, root, TestProcess } from '../support/processes.js';
import { brief } from '../support/properties.js';
import { lastLine } from '../support/reporter.js';
import { until, within } from '../support/until.js';

interface Selection {
  readonly isWatch: boolean;
  readonly isWhole: boolean;
  readonly specs: readonly string[];
  readonly forMocha: readonly string[];
}

interface SelectionModule {
  readonly suites: readonly string[];
  allSpecs(root: string): readonly string[];
  builtFrom(spec: string): string;
  select(args: readonly string[], where: { root: string; specs: readonly string[]; folder?: string }): Selection;
}

interface SourcesModule {
  compile(projects: readonly string[], cwd: string): { errors: readonly string[]; warnings: readonly string[] };
}

interface WatchModule {
  watchFolders(folders: readonly string[], onChange: () => void): () => void;
}

const load = async <T>(file: string): Promise<T> => (await import(`${root}scripts/test/${file}`)) as T;

describe('npm test', () => {
  const specs = ['unit/a', 'unit/metrics/b', 'unit/metrics/c', 'contract/d', 'integration/e', 'e2e/b'].map(
    (name) => `test/${name}.test.ts`,
  );
  let selection: SelectionModule;
  const select = (...args: readonly string[]): Selection => selection.select(args, { root, specs });
  before(async () => {
    selection = await load('selection.mjs');
  });

  it('runs everything where nothing is named, and only then all must be clean', () => {
    expect(select()).to.deep.equal({ isWatch: false, isWhole: true, specs, forMocha: [] });
    for (const args of [['--unit'], ['test/unit'], ['-g', 'x'], ['--watch'], ['test']])
      expect(select(...args).isWhole, String(args)).to.equal(false);
    expect(select('-g', 'x').specs).to.deep.equal(specs);
  });

  it('takes sources, builds, folders and globs, several of them, from wherever they are named', () => {
    const [a, b, c, d, e] = specs;
    expect(select('test/unit/a.test.ts').specs).to.deep.equal([a]);
    expect(select('./test/unit/../unit/a.test.ts').specs).to.deep.equal([a]);
    expect(select(`${root}test/unit/a.test.ts`).specs).to.deep.equal([a]);
    expect(select('build/test/unit/a.test.js').specs).to.deep.equal([a]);
    expect(select('test/unit/metrics').specs).to.deep.equal([b, c]);
    expect(select('test/unit/').specs).to.deep.equal([a, b, c]);
    expect(select('test').specs).to.deep.equal(specs);
    expect(select('build/test/unit/**/*.test.js').specs).to.deep.equal([a, b, c]);
    expect(select('test/unit/*.test.ts').specs).to.deep.equal([a]);
    expect(select('test/integration', 'test/unit/a.test.ts', 'test/unit').specs).to.deep.equal([a, b, c, e]);
    expect(select('--unit').specs).to.deep.equal([a, b, c, d]);
    expect(select('--unit', 'test/integration/e.test.ts').specs).to.deep.equal([a, b, c, d, e]);
    const folder = join(root, 'test/unit');
    expect(selection.select(['metrics/b.test.ts'], { root, specs, folder }).specs).to.deep.equal([b]);
  });

  it('gives Mocha what is its own, values included', () => {
    const { specs: chosen, forMocha, isWatch } = select('-g', 'drops no', 'test/unit/a.test.ts', '--watch', '--bail');
    expect(forMocha).to.deep.equal(['-g', 'drops no', '--bail']);
    expect(chosen).to.deep.equal([specs[0]]);
    expect(isWatch).to.equal(true);
    expect(() => select('-g')).to.throw('-g wants a value');
  });

  it('refuses a path that matches no test, and says what could be meant', () => {
    for (const path of [
      'test/unit/x.test.ts',
      'src/format.ts',
      'test/support',
      'test/unit/*.spec.ts',
      'test/uni',
      '..',
    ])
      expect(() => select('test/unit/a.test.ts', path), path).to.throw(`no test is at ${path}: specs lie in test/unit`);
    expect(() => select('d')).to.throw('did you mean test/contract/d.test.ts?');
    expect(() => select('src/b.ts')).to.throw('did you mean test/unit/metrics/b.test.ts or test/e2e/b.test.ts?');
  });

  it('ends with 2 and one sentence for such a path', async () => {
    const runner = new TestProcess(process.execPath, [`${root}scripts/test.mjs`, 'test/unit/no-such.test.ts']);
    expect(await runner.ended()).to.include({ code: 2 });
    expect(runner.lines[0]).to.match(/^no test is at test\/unit\/no-such\.test\.ts: /);
    expect(runner.lines).to.have.length(2);
  });

  it('finds every spec there is, and its build', () => {
    const found = selection.allSpecs(root);
    expect(found).to.include('test/unit/test-runner.test.ts').and.include('test/unit/metrics/merge.test.ts');
    const all = readdirSync(`${root}test`, { recursive: true, encoding: 'utf8' }).filter((file) =>
      /\.test\.ts$/.test(file),
    );
    expect(found).to.have.members(all.map((file) => `test/${file}`));
    for (const spec of found) expect(() => readFileSync(`${root}${selection.builtFrom(spec)}`), spec).not.to.throw();
  });

  it('has what is unused built all the same, as a warning; what is wrong is an error', async () => {
    const { compile } = await load<SourcesModule>('sources.mjs');
    const folder = temporaryFolder();
    const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
    const compilerOptions = {
      noUnusedLocals: true,
      noUnusedParameters: true,
      outDir: 'out',
      composite: true,
      types: [],
    };
    write('tsconfig.json', JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    write('b.ts', 'export const [b, c, d] = [1, 2, 3];');
    write(
      'a.ts',
      `import { b } from './b.js';
       import { c, d } from './b.js';
       const local = 1; type T = 1; interface I { x: T }
       export function f(parameter: number) { const { x, y } = { x: 1, y: 2 }; }
       export class C { private field = 1; private method(): void {} }
       export type G<P> = 1;`,
    );
    for (const time of ['first', 'second']) {
      const { errors, warnings } = compile(['tsconfig.json'], folder);
      expect(errors, time).to.deep.equal([]);
      expect(warnings, time).to.have.length.above(6);
    }
    expect(readFileSync(join(folder, 'out/a.js'), 'utf8')).to.include('local');
    write('b.ts', "export const [b, c, d] = [1, 2, 3]; const n: { x: number } = { x: 'one' }; n.y;");
    const { errors, warnings } = compile(['tsconfig.json'], folder);
    expect(warnings).to.have.length.above(6);
    expect(errors).to.have.length(2);
    expect(errors.join()).to.include("b.ts(1,64): error TS2322: Type 'string' is not assignable to type 'number'");
  });

  it('--watch sees files that are written, replaced and added, also in a new folder, once for several', async () => {
    const { watchFolders } = await load<WatchModule>('watch.mjs');
    const folder = temporaryFolder();
    const file = join(folder, 'a.ts');
    writeFileSync(file, '1');
    let told = 0;
    let onChange = (): void => {};
    const stop = watchFolders([folder], () => {
      told++;
      onChange();
    });
    const change = async (what: string, act: () => void): Promise<void> => {
      const changed = new Promise<void>((resolve) => {
        onChange = resolve;
      });
      act();
      await within(5000, what, changed);
    };
    try {
      await change('a file that is written', () => {
        for (let i = 0; i < 10; i++) writeFileSync(file, String(i));
      });
      expect(told).to.equal(1);
      await change('a file that is replaced', () => {
        writeFileSync(join(folder, 'a.tmp'), '2');
        renameSync(join(folder, 'a.tmp'), file);
      });
      await change('the same file once more', () => writeFileSync(file, '3'));
      await change('a new folder', () => void mkdir(join(folder, 'inner')));
      await change('a file in it', () => writeFileSync(join(folder, 'inner/b.ts'), '1'));
    } finally {
      stop();
    }
  });
});

describe('a test that fails', () => {
  afterEach(endProcesses);
  const fixture = (...args: readonly string[]): TestProcess =>
    new TestProcess(process.execPath, [
      `${root}node_modules/mocha/bin/mocha.js`,
      `${root}build/test/support/fixtures/failing.js`,
      ...args,
    ]);
  let lines: readonly string[];
  let code: number | null;
  /** The lines after `title` in the summary, up to the next title. */
  const summary = (title: string): string => {
    const from = lines.findLastIndex((line) => line.trim() === `${title}:`);
    const to = lines.findIndex((line, i) => i > from && /^ {2}\d+\) /.test(line));
    return lines.slice(from, to === -1 ? undefined : to).join('\n');
  };
  before(async () => {
    const run = fixture('--grep', 'fixture');
    ({ code } = await run.ended());
    lines = run.lines;
  });

  it('shows where, in the sources of tests and of the product', () => {
    const text = readFileSync(`${root}test/support/fixtures/failing.ts`, 'utf8');
    const line = text.split('\n').findIndex((source) => source.includes('the line that fails')) + 1;
    expect(summary('fails beside a process')).to.include(`test/support/fixtures/failing.ts:${line}:`);
    const thrown = readFileSync(`${root}src/protocol/frames.ts`, 'utf8').split('\n');
    const at = thrown.findIndex((source) => source.includes('throw new RangeError')) + 1;
    expect(summary('fails in the product')).to.include(`(src/protocol/frames.ts:${at}:`);
    expect(lines.filter((shown) => / at .*\.js:/.test(shown) && !/node_modules/.test(shown))).to.deep.equal([]);
  });

  it('shows what processes have printed, of its own and of its group, the last lines, and sources there too', () => {
    const from = lines.findIndex((line) => /^ {2}1\) fixture fails beside a process/.test(line));
    const shown = lines.slice(from).join('\n');
    expect(shown).to.include('(60 lines before)\n       loud 60\n').and.include('       loud 99\n');
    expect(shown).not.to.include('loud 59');
    expect(shown).to.match(/"stack":"RangeError: .*\(src\/protocol\/frames\.ts:\d+:\d+\)/);
    // Its output before this test, and the output of a test that passed, do not belong to this test.
    expect(lines.join('\n')).not.to.match(/shared \d|quiet \d/);
  });

  it('as a property says first what was wrong, then for which input, in few lines', () => {
    const [, first, second, third, ...rest] = summary('fails for some bytes').split('\n');
    expect(first).to.include('PropertyFailed: what was wrong: expected 3000 to equal +0');
    expect(second).to.equal('for [');
    expect(third).to.match(/<Buffer 00 .* 2950 more bytes>/);
    expect(rest.filter((line) => line.trim() !== '')).to.have.length.below(8);
    expect(rest.join('\n')).to.match(/run 1, made smaller \d+ times; this one alone: \{ seed: -?\d+, path: '0' \}/);
  });

  it('is counted in the last line, and so are those that were skipped, with reasons', () => {
    expect(code).to.equal(3);
    expect(lines.at(-1)).to.equal(
      '1 passed, 3 failed, 3 skipped (1: it lacks something; 2: the group lacks something)',
    );
    expect(lines.filter((line) => line.trim() === 'skipped: the group lacks something')).to.have.length(2);
    expect(lastLine({ passes: 0, failures: 0, skipped: [] })).to.equal('0 passed, 0 failed; no test has run');
  });

  it('shows any value in few characters', () => {
    expect(brief(['x'.repeat(5000), Array(5000).fill({ a: 'y'.repeat(500) })]).length).to.be.below(1600);
  });

  it('or is ended by Ctrl-C leaves no process behind', async () => {
    const run = fixture('--grep', 'hanging');
    const pid = Number((await run.line('the test', (line) => line.startsWith('waiting for'))).split(' ').at(-1));
    expect(isRunning(pid)).to.equal(true);
    run.signal('SIGINT');
    expect(await run.ended()).to.include({ code: 130 });
    await until('its end', () => !isRunning(pid));
  });
});
