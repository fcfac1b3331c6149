import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { metricFamilies } from '#src/aggregator/prometheus.js';
import { root } from '../support/processes.js';

describe('the README', () => {
  const readme = readFileSync(`${root}README.md`, 'utf8');

  it('has the tables of the code as it is (mended by `npm run docs`)', async () => {
    const { withTables } = (await import(`${root}scripts/docs.mjs`)) as { withTables(text: string): Promise<string> };
    expect(await withTables(readme)).to.equal(readme);
  });

  it('gives a reason for every package that the product or its tests use', () => {
    const { dependencies, devDependencies } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Record<
      string,
      Record<string, string>
    >;
    const names = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !name.startsWith('@types/'));
    for (const name of names)
      expect(readme, name).to.match(new RegExp(`^\\|.*(?<![\\w./-])${name}(?![\\w/-]).*\\|`, 'm'));
  });

  it('names files and headings that exist', () => {
    const headings = [...readme.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      heading?.toLowerCase().replaceAll(' ', '-'),
    );
    for (const [, link] of readme.matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      if (link?.startsWith('#')) expect(headings).to.include(link.slice(1));
      else expect(() => readFileSync(`${root}${link}`), link).not.to.throw();
    }
  });
});

describe('every threat of the README', () => {
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
