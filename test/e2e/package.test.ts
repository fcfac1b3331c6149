// The package as it would be published: what is in it, what it brings along, and that it works where nothing else is.

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { cleanEnv } from '../support/server.js';
import { until } from '../support/until.js';

interface SupplyChain {
  productPackages(): readonly { readonly name: string; readonly licence: string }[];
  doubtfulLicences(): readonly unknown[];
  billOfMaterials(): string;
  vulnerabilities(): { readonly critical: number; readonly high: number } | null;
}

describe('the package', function () {
  this.timeout(180_000);
  afterEach(endProcesses);
  let supply: SupplyChain;
  before(async () => {
    supply = (await import(`${root}scripts/supply-chain.mjs`)) as SupplyChain;
  });

  it('brings packages of permissive licences alone, and no process manager', () => {
    expect(supply.doubtfulLicences()).to.deep.equal([]);
    const names = supply.productPackages().map(({ name }) => name);
    expect(names).to.include('ioredis');
    expect(names).to.not.include('pm2');
  });

  it('has a bill of materials that names all of them', () => {
    const { bomFormat, components } = JSON.parse(supply.billOfMaterials()) as {
      bomFormat: string;
      components: readonly { readonly name: string; readonly group?: string }[];
    };
    expect(bomFormat).to.equal('CycloneDX');
    const named = new Set(components.map(({ name, group }) => (group === undefined ? name : `${group}/${name}`)));
    for (const { name } of supply.productPackages()) {
      expect([...named]).to.include(name);
    }
  });

  it('brings none that is known to be vulnerable', function () {
    const found = supply.vulnerabilities();
    if (found === null) this.skip(); // the registry cannot be asked
    expect(found).to.include({ critical: 0, high: 0 });
  });

  it('runs no code when it is installed', () => {
    expect(readFileSync(`${root}.npmrc`, 'utf8')).to.match(/^ignore-scripts=true$/m);
    const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?(install|prepare|pack)/.test(name))).to.deep.equal([]);
  });

  it('holds what it should and nothing else, and works from its tarball: as a command, a client and a library', async () => {
    const project = temporaryFolder();
    const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', project], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [{ filename, files }] = JSON.parse(packed) as [{ filename: string; files: readonly { path: string }[] }];
    const unexpected = files
      .map(({ path }) => path)
      .filter((path) => !/^(dist\/.+\.(js|d\.ts|html|css|svg)|config\/[\w./-]+)$/.test(path))
      .sort();
    const expected = ['CHANGELOG.md', 'LICENSE', 'README.md', 'ecosystem.config.cjs', 'package.json'];
    expect(unexpected).to.deep.equal(expected);

    writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }');
    const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', `./${filename}`];
    const installed = spawnSync('npm', install, { cwd: project, encoding: 'utf8' });
    expect(installed.status, installed.stderr).to.equal(0);

    const bin = join(project, 'node_modules/.bin/ml-tcp-server');
    const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
    expect(execFileSync(bin, ['--version'], { encoding: 'utf8' }).trim()).to.equal(version);
    writeFileSync(join(project, 'double.ts'), libraryProgram);
    writeFileSync(join(project, 'ask.ts'), clientProgram);
    const compiler = `${root}node_modules/typescript/bin/tsc`;
    const types = ['--typeRoots', `${root}node_modules/@types`, '--types', 'node'];
    const strict = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--skipLibCheck', 'false'];
    const compiled = spawnSync(process.execPath, [compiler, ...strict, ...types, 'double.ts', 'ask.ts'], {
      cwd: project,
      encoding: 'utf8',
    });
    expect(compiled.status, compiled.stdout).to.equal(0);

    const port = await freePort();
    const models = [{ name: 'double', backend: 'module', path: 'double.js' }];
    writeFileSync(join(project, 'config.json'), JSON.stringify({ models, server: { model: 'double', port } }));
    const server = new TestProcess(bin, ['start', '--config', 'config.json', '--http-port', '0', '-w', '1'], {
      cwd: project,
      env: cleanEnv(),
    });
    await server.line('ready', (line) => line.includes('"msg":"ready"'));
    const asked = await until('the reply', () => {
      const { status, stdout } = spawnSync(process.execPath, ['ask.js', String(port)], {
        cwd: project,
        encoding: 'utf8',
      });
      return status === 0 && stdout.trim();
    });
    expect(asked).to.equal('abab');
    server.signal('SIGTERM');
    expect((await server.ended()).code).to.equal(0);
  });
});

const libraryProgram = `
import type { LoadUserModel } from 'ml-tcp-server/model';

const load: LoadUserModel = ({ name }) => ({
  infer: (payloads) => payloads.map((payload) => (name === 'double' ? Buffer.concat([payload, payload]) : payload)),
});
export default load;
`;

const clientProgram = `
import { InferenceClient } from 'ml-tcp-server/client';

const client = await InferenceClient.connect({ port: Number(process.argv[2]) });
const reply: Buffer = await client.infer(Buffer.from('ab'));
console.log(reply.toString());
await client.close();
`;
