import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { metricFamilies } from '#src/aggregator/prometheus.js';
import { loadConfig } from '#src/config/load.js';
import { temporaryFolder } from '../support/folder.js';
import { root } from '../support/processes.js';
import { allBlocks, anchorsOf, docs, linksOf, proseOf, readmes } from '../support/readmes.js';

describe('the READMEs', () => {
  const files = Object.keys(readmes);

  it('have the tables of the code as it is (mended by `npm run docs`)', async () => {
    expect(await docs.withTables(readmes)).to.deep.equal(readmes);
  });

  it('give a reason for every package that the product or its tests use', () => {
    const { dependencies, devDependencies } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Record<
      string,
      Record<string, string>
    >;
    const names = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !name.startsWith('@types/'));
    for (const name of names)
      expect(readmes['src/README.md'], name).to.match(new RegExp(`^\\|.*(?<![\\w./-])${name}(?![\\w/-]).*\\|`, 'm'));
  });

  it('link to files and headings that exist', () => {
    for (const { file, link, path, anchor } of files.flatMap(linksOf)) {
      expect(existsSync(`${root}${path}`), `${file}: ${link}`).to.equal(true);
      if (anchor !== '') expect(anchorsOf(path), `${file}: ${link}`).to.include(anchor);
    }
  });

  it('name source files that exist', () => {
    const missing = files.flatMap((file) =>
      [...proseOf(file).matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)]
        .map(([, path = '']) => path)
        .filter((path) => /^(src|scripts|config|test)\/./.test(path) || isSource(file, path))
        .map((path) => (isSource(file, path) ? join(dirname(file), path) : path))
        .filter((path) => !existsSync(`${root}${path}`)),
    );
    expect(missing).to.deep.equal([]);
  });

  it('are reached from the first one', () => {
    const reached = new Set(['README.md']);
    for (const file of reached)
      for (const { path } of linksOf(file)) if (readmes[path] !== undefined) reached.add(path);
    expect([...reached].sort()).to.deep.equal([...files].sort());
  });

  it('say of each block of code what it is, so that each is run or checked', () => {
    const known = ['sh', 'json', 'js', 'ts', 'python', 'nginx', 'text'];
    for (const { file, heading, language } of allBlocks)
      expect(known, `${file}, under "${heading}"`).to.include(language);
  });

  for (const { file, heading, text } of allBlocks.filter(({ language }) => language === 'json')) {
    it(`show settings that the server takes: ${file}, ${heading}`, () => {
      const config = join(temporaryFolder(), 'config.json');
      writeFileSync(config, text);
      loadConfig({ file: config, env: {}, workingDirectory: root });
    });
  }
});

/** In src/README.md, paths start at its folder. */
function isSource(file: string, path: string): boolean {
  return file === 'src/README.md' && /^[\w-]+(\/[\w-]+)*(\.ts|\/)$/.test(path) && !path.startsWith('src/');
}

describe('every threat of the READMEs', () => {
  it('has a counter that /metrics shows, and a test', async () => {
    const { threats } = (await import(`${root}scripts/threats.mjs`)) as {
      threats: readonly { readonly counter: string | null; readonly test: string }[];
    };
    const shown = metricFamilies(new ClusterView(250).update({ records: [], now: 0 }, 0), '').flatMap(
      ({ name, samples }) => [name, ...samples.map(({ labels }) => `${name}{reason="${labels?.reason}"}`)],
    );
    const tests = ['unit', 'integration', 'e2e']
      .flatMap((kind) =>
        readdirSync(`${root}test/${kind}`, { recursive: true, encoding: 'utf8' }).map((file) => `${kind}/${file}`),
      )
      .filter((file) => file.endsWith('.test.ts'))
      .map((file) => readFileSync(`${root}test/${file}`, 'utf8'))
      .join('\n');
    for (const { counter, test } of threats) {
      if (counter !== null) expect(shown).to.include(counter);
      expect(tests, test).to.include(test);
    }
  });
});
