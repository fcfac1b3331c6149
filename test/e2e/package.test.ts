// The package as it would be published: what is in it, what it brings along, and that it works where nothing else is.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, freePort, root, TestProcess, workersOf } from '../support/processes.js';
import { linksOf, readmes } from '../support/readmes.js';
import { cleanEnv, type LogLine, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';

interface SupplyChain {
  productPackages(): readonly { readonly name: string; readonly licence: string }[];
  doubtfulLicences(): readonly unknown[];
  billOfMaterials(): string;
  packagesWithInstallScript(): readonly string[];
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
    expect(names).to.include.members(['ioredis', 'onnxruntime-node']);
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
    if (found === null) skip(this, 'the registry cannot be asked');
    expect(found).to.include({ critical: 0, high: 0 });
  });

  it('runs no code when it is installed', () => {
    expect(readFileSync(`${root}.npmrc`, 'utf8')).to.match(/^ignore-scripts=true$/m);
    const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?(install|prepare|pack)/.test(name))).to.deep.equal([]);
    expect(supply.packagesWithInstallScript()).to.deep.equal([]);
  });

  it('installs plainly into an empty project, runs no script there, and serves digits', async () => {
    const { tarball, files } = pack(root);
    const unexpected = files
      .filter(
        (path) => !/^((bundle|dist)\/.+\.(js|d\.ts|html|css|svg)|(config|scripts\/examples)\/[\w./-]+)$/.test(path),
      )
      .filter(
        (path) => !/^dist\/onnxruntime\/bin\/napi-v6\/(linux\/x64|linux\/arm64|darwin\/arm64)\/[\w.]+$/.test(path),
      )
      .sort();
    const beside = ['LICENSE', 'ThirdPartyNotices.txt', 'index.cjs', 'index.mjs', 'package.json'];
    const shown = ['scripts/bench/chart.svg', 'scripts/screenshot.png', ...Object.keys(readmes)].filter(
      (path) => !path.startsWith('config/'),
    );
    const protos = ['health', 'inference', 'mltcp', 'reflection', 'reflection_v1alpha'].map(
      (name) => `src/protocol/proto/${name}.proto`,
    );
    const expected = [
      'CHANGELOG.md',
      'LICENSE',
      'bundle/ThirdPartyNotices.txt',
      'ecosystem.config.cjs',
      'package.json',
      ...shown,
      ...protos,
    ];
    expect(unexpected).to.deep.equal([...expected, ...beside.map((file) => `dist/onnxruntime/${file}`)].sort());
    expect(lstatSync(tarball).size).to.be.below(50e6);
    // Readers of the READMEs in test/ have a checkout.
    const forUsers = Object.keys(readmes).filter((file) => !file.startsWith('test/'));
    for (const { file, link, path } of forUsers.flatMap(linksOf).filter((found) => existsSync(root + found.path)))
      expect(
        files.some((packed) => packed === path || packed.startsWith(`${path}/`)),
        `${file}: ${link}`,
      ).to.equal(true);

    const project = installed(tarball);
    expect(sizeOf(join(project, 'node_modules'))).to.be.below(210e6);
    expect(existsSync(join(project, 'node_modules/onnxruntime-node'))).to.equal(false);

    const http = await freePort();
    const args = ['ml-tcp-server', 'start', '--port', '0', '--http-port', String(http), '-w', '1'];
    const server = new TestProcess('npx', args, { cwd: project, env: cleanEnv() });
    const { tcp, pid } = JSON.parse(await server.line('ready', (line) => line.includes('"msg":"ready"'))) as LogLine & {
      tcp: readonly string[];
    };
    const port = /:(\d+) /.exec(tcp[0] ?? '')?.[1] ?? '';
    const metrics = `http://127.0.0.1:${http}/metrics`;
    const simulation = ['ml-tcp-server', 'simulate', '-p', port, '--metrics', metrics, '-n', '500'];
    const simulated = spawnSync('npx', simulation, { cwd: project, env: cleanEnv(), encoding: 'utf8' });
    expect(simulated.status, simulated.stdout + simulated.stderr).to.equal(0);
    process.kill(pid, 'SIGTERM');
    expect((await server.ended()).code).to.equal(0);
    await worksAsCommandAndLibrary(project);
  });

  it('has the licences of all packages that are inside of its programs', () => {
    const notices = readFileSync(`${root}bundle/ThirdPartyNotices.txt`, 'utf8');
    const inside = new Set([...notices.matchAll(/^(\S+) [\d.]+ \((.+)\)$/gm)].map(([, name]) => name));
    const known = new Map(supply.productPackages().map(({ name, licence }) => [name, licence]));
    expect([...inside].filter((name) => !known.has(name as string))).to.deep.equal([]);
    expect([...inside]).to.include.members(['commander', 'convict', 'express', 'ioredis', 'pino', 'socket.io', 'ws']);
    expect(notices.match(/permission/gi)?.length).to.be.at.least(inside.size);
    const sources = readdirSync(`${root}bundle`, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.js') && !file.startsWith('aggregator/page/'))
      .map((file) => readFileSync(join(root, 'bundle', file), 'utf8'));
    const named = sources.flatMap((source) => [
      ...source.matchAll(/^(?: {2})?"?(?:\/\/ )?node_modules\/(?:.*\/node_modules\/)?((?:@[^/\n]+\/)?[^/\n]+)/gm),
    ]);
    expect(named.length).to.be.greaterThan(300);
    expect([...new Set(named.map(([, name]) => name))].filter((name) => !inside.has(name))).to.deep.equal([]);
  });

  it('has a client that installs alone, in less than a megabyte, and talks to the server', async () => {
    const { tarball, files } = pack(join(root, 'src/client'));
    expect(files.filter((path) => !/^dist\/(client|protocol)\/[\w-]+\.(js|d\.ts)$/.test(path)).sort()).to.deep.equal([
      'LICENSE',
      'README.md',
      'package.json',
    ]);
    const manifest = (folder: string): Record<string, unknown> =>
      JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
    const ofClient = manifest(join(root, 'src/client'));
    const ofServer = manifest(root);
    for (const key of ['version', 'engines', 'license']) expect(ofClient[key], key).to.deep.equal(ofServer[key]);
    expect(ofClient).to.not.have.any.keys('dependencies', 'peerDependencies', 'optionalDependencies', 'scripts');
    expect(readFileSync(`${root}src/client/LICENSE`, 'utf8')).to.equal(readFileSync(`${root}LICENSE`, 'utf8'));

    const project = installed(tarball);
    const there = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(there).to.deep.equal(['ml-tcp-server-client']);
    expect(sizeOf(join(project, 'node_modules'))).to.be.below(1e6);
    compile(project, { 'ask.ts': clientProgram('ml-tcp-server-client') });
    const server = new TestServer({ env: { MODEL: 'dummy', RESPONSE_SIZE: '4', WORKERS: '1' } });
    expect(ask(project, await server.port())).to.equal('XXXX');
  });

  describe('of the ONNX Runtime that it brings', () => {
    const programOf = (lines: string) => spawnSync(process.execPath, ['-e', lines], { encoding: 'utf8', cwd: root });

    it('says what to install where there is none for the platform', () => {
      const { stderr } = programOf(
        `Object.defineProperty(process, 'platform', { value: 'sunos' }); require('./dist/onnxruntime/index.cjs')`,
      );
      const { version } = JSON.parse(readFileSync(`${root}node_modules/onnxruntime-node/package.json`, 'utf8')) as {
        version: string;
      };
      expect(stderr).to.match(/brings no ONNX Runtime for sunos-/);
      expect(stderr).to.include(`install onnxruntime-node@${version} and name its folder in onnxRuntime.packageFolder`);
    });

    it('loads another in its place where config names one', async function () {
      if (process.platform !== 'linux') skip(this, 'it is seen in /proc, on Linux only');
      for (const [folder, binary] of [
        ['', 'dist/onnxruntime/bin'],
        ['node_modules/onnxruntime-node', 'node_modules/onnxruntime-node/bin'],
      ] as const) {
        const server = new TestServer({ args: ['-w', '1', '--set', `onnxRuntime.packageFolder=${folder}`] });
        await server.event('ready');
        const [worker] = workersOf(server);
        const loaded = readFileSync(`/proc/${worker}/maps`, 'utf8').match(/\S+onnxruntime_binding\.node/g) ?? [];
        expect([...new Set(loaded)]).to.have.lengthOf(1);
        expect(loaded[0]).to.include(binary);
      }
      const mistaken = new TestServer({ args: ['-w', '1', '--set', 'onnxRuntime.packageFolder=config/nowhere'] });
      expect((await mistaken.ended()).code).to.equal(4);
      expect(mistaken.output).to.include('onnxRuntime.packageFolder: no package onnxruntime-node for linux-');
      expect(mistaken.output).to.include(join(root, 'config/nowhere'));
    });
  });

  async function worksAsCommandAndLibrary(project: string): Promise<void> {
    const bin = join(project, 'node_modules/.bin/ml-tcp-server');
    const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
    expect(execFileSync(bin, ['--version'], { encoding: 'utf8' }).trim()).to.equal(version);
    compile(project, { 'double.ts': libraryProgram, 'ask.ts': clientProgram('ml-tcp-server/client') });
    const port = await freePort();
    const models = [{ name: 'double', backend: 'module', path: 'double.js' }];
    writeFileSync(join(project, 'config.json'), JSON.stringify({ models, server: { model: 'double', port } }));
    const server = new TestProcess(bin, ['start', '--config', 'config.json', '--http-port', '0', '-w', '1'], {
      cwd: project,
      env: cleanEnv(),
    });
    await server.line('ready', (line) => line.includes('"msg":"ready"'));
    expect(ask(project, port)).to.equal('abab');
    server.signal('SIGTERM');
    expect((await server.ended()).code).to.equal(0);
  }
});

/** Packs as `npm publish` would: the tarball, and the paths in it. */
function pack(folder: string): { readonly tarball: string; readonly files: readonly string[] } {
  const to = temporaryFolder();
  const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', to], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [{ filename, files }] = JSON.parse(packed) as [{ filename: string; files: readonly { path: string }[] }];
  return { tarball: join(to, filename), files: files.map(({ path }) => path) };
}

/**
 * An empty project with this package, installed as anybody would. Throws when a package in it has an install script.
 */
function installed(tarball: string): string {
  const project = temporaryFolder();
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }');
  // npm runs scripts by default; the user of this test may have set it otherwise.
  const args = ['install', '--ignore-scripts=false', '--foreground-scripts', '--no-audit', '--no-fund', tarball];
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd: project, encoding: 'utf8' });
  expect(status, stderr).to.equal(0);
  expect(stdout, 'what scripts print').to.not.match(/^> /m);
  // What makes npm run something: a script by one of these names, or sources for node-gyp.
  const folders = packageFolders(join(project, 'node_modules'));
  expect(folders).to.include(join(project, 'node_modules', basename(tarball).replace(/-\d.*$/, '')));
  const running = folders.filter((folder) => {
    const { scripts = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      scripts?: Record<string, string>;
    };
    const isRun = Object.keys(scripts).some((name) => /^(pre|post)?install$/.test(name));
    return isRun || existsSync(join(folder, 'binding.gyp'));
  });
  expect(running).to.deep.equal([]);
  const lock = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { hasInstallScript?: true; resolved?: string }>;
  };
  for (const [path, { hasInstallScript, resolved }] of Object.entries(lock.packages)) {
    expect(hasInstallScript, path).to.equal(undefined);
    // No git repository, no address outside a registry.
    if (resolved !== undefined) expect(resolved, path).to.match(/^file:|^https?:\/\/[^/]+\/.*\.tgz$/);
  }
  return project;
}

/** Folders of installed packages, including those inside others. */
function packageFolders(modules: string): readonly string[] {
  return readdirSync(modules, { recursive: true, encoding: 'utf8' })
    .filter((path) => basename(path) === 'package.json')
    .map((path) => dirname(join(modules, path)))
    .filter((folder) => /\/node_modules\/(@[^/]+\/)?[^/]+$/.test(folder));
}

/** Bytes of all files in a folder. */
function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((path) => lstatSync(join(folder, path)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0);
}

function compile(project: string, programs: Readonly<Record<string, string>>): void {
  for (const [file, text] of Object.entries(programs)) writeFileSync(join(project, file), text);
  const compiler = `${root}node_modules/typescript/bin/tsc`;
  const types = ['--typeRoots', `${root}node_modules/@types`, '--types', 'node'];
  const strict = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--skipLibCheck', 'false'];
  const args = [compiler, ...strict, ...types, ...Object.keys(programs)];
  const compiled = spawnSync(process.execPath, args, { cwd: project, encoding: 'utf8' });
  expect(compiled.status, compiled.stdout).to.equal(0);
}

/** What the server on this port replies to the compiled client program. */
function ask(project: string, port: number): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['ask.js', String(port)], {
    cwd: project,
    encoding: 'utf8',
  });
  expect(status, stderr).to.equal(0);
  return stdout.trim();
}

const libraryProgram = `
import type { LoadUserModel } from 'ml-tcp-server/model';

const load: LoadUserModel = ({ name }) => ({
  infer: (payloads) => payloads.map((payload) => (name === 'double' ? Buffer.concat([payload, payload]) : payload)),
});
export default load;
`;

const clientProgram = (from: string): string => `
import { InferenceClient } from '${from}';

const client = await InferenceClient.connect({ port: Number(process.argv[2]) });
const reply: Buffer = await client.infer(Buffer.from('ab'));
console.log(reply.toString());
await client.close();
`;
