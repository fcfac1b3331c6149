// What the READMEs tell their readers to run is run unchanged in a fresh clone: commands, programs, and the files to
// write. A section is one sitting: a server that it starts serves until the section ends or starts another one, and
// then has to end well. Commands that need a server get one if the section has started none. A command or a program has
// to print what follows `# prints`.

import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { expect } from 'chai';
import { WebSocket } from 'ws';
import { temporaryFolder } from '../support/folder.js';
import { hasNginx, startNginx } from '../support/nginx.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { allBlocks, type Block } from '../support/readmes.js';
import { RedisServer } from '../support/redis-server.js';
import { cleanEnv } from '../support/server.js';
import { skip } from '../support/skip.js';

interface Elsewhere {
  readonly heading: string;
  /** The beginning of the command; the rest may differ. */
  readonly command: string;
  readonly because: string;
  /** A test that runs it, and part of its title. */
  readonly test?: readonly [file: string, title: string];
}

const packing = ['e2e/package.test.ts', 'installs plainly into an empty project'] as const;

/** Commands that are not run here. Each has to be in a README. */
const elsewhere: readonly Elsewhere[] = [
  { heading: 'Install it', command: 'npm pack', because: 'it takes ten seconds', test: packing },
  { heading: 'Install it', command: 'npm install', because: 'it needs a registry', test: packing },
  { heading: 'Install it', command: 'npx ml-tcp-server start', because: 'nothing is installed', test: packing },
  {
    heading: 'Install it',
    command: 'npm pack ./src/client',
    because: 'it takes ten seconds',
    test: ['e2e/package.test.ts', 'has a client that installs alone'],
  },
  { heading: 'PM2', command: 'npm ci', because: 'the first start of a checkout has done it, before any test' },
  { heading: 'systemd', command: 'sudo ', because: 'it changes the machine' },
  { heading: 'systemd', command: 'journalctl', because: 'there is no such service on this machine' },
  { heading: 'Contributing', command: 'npm test', because: 'it would run itself' },
  { heading: 'Contributing', command: 'npm run check', because: '`npm test` begins with what it does' },
  {
    heading: 'Contributing',
    command: 'npm run docs',
    because: 'it would write what a test compares',
    test: ['unit/readme.test.ts', 'have the tables of the code as it is'],
  },
  { heading: 'Speed', command: 'npm run bench', because: 'it takes minutes of all cores' },
  { heading: 'Speed', command: 'npm run docs', because: 'it comes after npm run bench' },
  { heading: 'Chaos', command: 'npm run chaos', because: 'it takes a minute', test: ['e2e/chaos.test.ts', 'chaos'] },
  { heading: 'The matrix of models', command: 'npm run matrix', because: 'it takes minutes and a gigabyte of Python' },
  {
    heading: 'Clients and suites of others',
    command: 'npm run peers',
    because: 'it takes minutes, and fetches what it runs',
    test: ['e2e/oip-clients.test.ts', 'clients of the Open Inference Protocol'],
  },
  { heading: 'The shipped digit classifier', command: 'python3 -m venv', because: 'it fetches what it trains with' },
  { heading: 'The shipped digit classifier', command: '/tmp/train/', because: 'it needs what was fetched' },
];

/** A command that serves, or shows something, until it is ended. */
const isLasting = (command: string): boolean =>
  /npm start|ml-tcp-server (start|aggregator)\b|ml-tcp-server top\b(?!.* --once)/.test(command);
const isServing = (command: string): boolean => isLasting(command) && !command.includes(' top');
const asksServer = (command: string): boolean =>
  /(ml-tcp-server|npm run) (status|reload|scale|drain|top|simulate)\b|examples\/client|curl /.test(command);

/** Programs that a machine may lack. */
const programs = ['curl', 'git', 'openssl', 'python3'];

/** The commands of a block: its lines without comments, with continued lines joined. */
function commandsOf({ text }: Block): readonly string[] {
  return text
    .replace(/\\\n\s*/g, ' ')
    .split('\n')
    .map((line) => line.replace(/(^|\s+)# .*$/, '').trim())
    .filter((line) => line !== '');
}

function reasonAgainst({ heading }: Block, command: string): Elsewhere | undefined {
  // The most specific one: `npm pack ./src/client` begins with `npm pack`.
  return elsewhere
    .filter((entry) => entry.heading === heading && command.startsWith(entry.command))
    .sort((a, b) => b.command.length - a.command.length)[0];
}

/** Whether any part of it is run here. */
function isRun(block: Block): boolean {
  if (block.language === 'sh') return commandsOf(block).some((command) => reasonAgainst(block, command) === undefined);
  return block.name === '' && ['js', 'ts', 'python'].includes(block.language);
}

function missingPrograms(blocks: readonly Block[]): readonly string[] {
  const text = blocks.map((block) => `${block.language === 'python' ? 'python3 ' : ''}${block.text}`).join('\n');
  const isThere = (name: string): boolean =>
    (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
  return programs.filter((name) => new RegExp(`\\b${name} `).test(text) && !isThere(name));
}
const titleOf = ({ file, heading }: Block): string => `${file}: ${heading}`;
/** The README of the checkout comes first: its first section clones what the others need. */
const sections = [...new Set(allBlocks.map(titleOf))].map((title) => ({
  title,
  blocks: allBlocks.filter((block) => titleOf(block) === title),
}));

describe('what the READMEs say to run', function () {
  this.timeout(120_000);
  const home = temporaryFolder();
  const source = join(home, 'source');
  const checkout = join(home, 'ml-tcp-server');

  before(() => {
    // The checkout as it is now, committed or not.
    const git = (cwd: string, ...args: readonly string[]): string =>
      execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@localhost', ...args], {
        cwd,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      });
    for (const file of git(root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0')) {
      if (file === '' || !existsSync(`${root}${file}`)) continue;
      mkdirSync(dirname(join(source, file)), { recursive: true });
      copyFileSync(`${root}${file}`, join(source, file));
    }
    git(source, 'init', '--quiet');
    git(source, 'add', '--all');
    git(source, 'commit', '--quiet', '--message', 'As it is');
  });
  afterEach(endProcesses);

  for (const { title, blocks } of sections) {
    if (!blocks.some(isRun)) continue;
    it(title, async function () {
      const missing = missingPrograms(blocks);
      if (missing.length > 0) skip(this, `${missing.join(', ')} is not on PATH`);
      const sitting = await Sitting.begin(blocks, { home, source, checkout });
      try {
        for (const block of blocks) await sitting.run(block);
        await sitting.end();
      } finally {
        sitting.clear();
      }
    });
  }
});

interface Places {
  readonly home: string;
  readonly source: string;
  readonly checkout: string;
}

/** A reader in front of one or two terminals. */
class Sitting {
  readonly #places: Places;
  readonly #env: NodeJS.ProcessEnv;
  readonly #ports: ReadonlyMap<string, number>;
  /** What it has started and not ended yet. */
  readonly #lasting: TestProcess[] = [];
  /** What commands that have ended have printed. */
  readonly #finished: string[] = [];
  #folder: string;
  #serving: TestProcess | null = null;

  private constructor(places: Places, env: NodeJS.ProcessEnv, ports: ReadonlyMap<string, number>) {
    this.#places = places;
    this.#env = env;
    this.#ports = ports;
    this.#folder = existsSync(places.checkout) ? places.checkout : places.home;
  }

  static async begin(blocks: readonly Block[], places: Places): Promise<Sitting> {
    const ports = new Map<string, number>();
    for (const port of ['8080', '8081', '9000']) ports.set(port, await freePort());
    const commands = blocks.filter(({ language }) => language === 'sh').flatMap(commandsOf);
    const redis = commands.some((command) => /6379|config --check|--env production/.test(command))
      ? await RedisServer.start()
      : null;
    if (redis !== null) ports.set('6379', redis.port);
    const env = cleanEnv({
      // Sockets are in it: no other sitting, and no other server of this machine, finds this server.
      TMPDIR: temporaryFolder(),
      PM2_HOME: temporaryFolder(),
      PORT: String(ports.get('8081')),
      HTTP_PORT: String(ports.get('8080')),
      WORKERS: '1',
      ...(redis === null ? {} : { REDIS_URL: redis.url }),
    });
    if (!existsSync(places.checkout) && !commands.some((command) => command.startsWith('git clone')))
      throw new Error('the first section of README.md clones what the others need: run it with them');
    const sitting = new Sitting(places, env, ports);
    for (const { language, name, text } of blocks)
      if (name !== '' && language !== 'nginx') writeFileSync(join(places.checkout, name), sitting.#own(text));
    return sitting;
  }

  async run(block: Block): Promise<void> {
    if (block.name !== '' || !isRun(block)) return;
    if (block.language === 'sh') await this.#runCommands(block);
    if (block.language === 'python') await this.#ask(`python3 ${this.#written('program.py', block.text)}`);
    if (block.language === 'js') await this.#ask(`node ${this.#written('program.mjs', block.text)}`);
    if (block.language === 'ts') await this.#serveModule(block.text);
    const output = this.#finished.join('\n');
    for (const [, printed = ''] of block.text.matchAll(/(?:#|\/\/) prints (.+)$/gm)) expect(output).to.include(printed);
  }

  /** Ends servers and other lasting commands with Ctrl-C; each must report that it ended well. */
  async end(): Promise<void> {
    for (const process of [...this.#lasting].reverse()) await this.#interrupt(process);
  }

  /** Leaves nothing running, whatever has happened. */
  clear(): void {
    for (const { pid } of this.#lasting) killGroup(pid, 'SIGKILL');
    if (existsSync(join(this.#env.PM2_HOME as string, 'pm2.pid')))
      execFileSync('npx', ['pm2', 'kill'], { cwd: this.#places.checkout, env: this.#env, stdio: 'ignore' });
  }

  async #runCommands(block: Block): Promise<void> {
    let script: string[] = [];
    const flush = async (): Promise<void> => {
      if (script.length > 0) await this.#finish(script.join('\n'));
      script = [];
    };
    for (const command of commandsOf(block)) {
      if (reasonAgainst(block, command) !== undefined) continue;
      if (asksServer(command)) await this.#haveServer();
      if (!isLasting(command)) script.push(command);
      else {
        await flush();
        await (isServing(command) ? this.#serve(command) : this.#show(command));
      }
    }
    await flush();
  }

  async #haveServer(): Promise<void> {
    if (this.#serving === null) await this.#serve('npx ml-tcp-server start');
  }

  async #ask(command: string): Promise<void> {
    await this.#haveServer();
    await this.#finish(command);
  }

  async #serve(command: string): Promise<void> {
    if (this.#serving !== null) await this.#interrupt(this.#serving);
    if (this.#folder === this.#places.checkout) this.#haveModules();
    this.#serving = this.#start(`exec ${this.#own(command).replace(/^((\w+=\S* )*)/, 'env $1')}`);
    await this.#serving.line('a server that is ready', (line) => line.includes('"msg":"ready"'), 90_000);
  }

  async #show(command: string): Promise<void> {
    const process = this.#start(`exec ${this.#own(command)}`);
    await process.line('something to see', (line) => line !== '');
  }

  #start(command: string): TestProcess {
    const process = new TestProcess('bash', ['-c', command], {
      cwd: this.#folder,
      env: this.#env,
      // npx and npm do not pass on a Ctrl-C that only they receive: a terminal sends it to the whole group.
      detached: true,
    });
    this.#lasting.push(process);
    return process;
  }

  async #interrupt(lasting: TestProcess): Promise<void> {
    killGroup(lasting.pid, 'SIGINT');
    const { code, signal } = await lasting.ended();
    // npx ends by the signal itself, once the program that it runs has ended.
    expect(code ?? signal, lasting.output).to.be.oneOf([0, 'SIGINT']);
    if (/"role":"primary".*"msg":"ready"/.test(lasting.output)) expect(lasting.output).to.include('"msg":"stopped"');
    this.#lasting.splice(this.#lasting.indexOf(lasting), 1);
  }

  /** Runs it to its end, which must be a good one; later commands start in the folder where it ended. */
  async #finish(script: string): Promise<void> {
    const where = join(this.#env.TMPDIR ?? '', 'where');
    const text = `set -e -o pipefail -x\n${this.#own(script)}\npwd > ${where}`;
    const process = new TestProcess('bash', ['-c', text], { cwd: this.#folder, env: this.#env });
    const { code } = await process.ended(90_000);
    expect(code, process.output).to.equal(0);
    this.#finished.push(process.output);
    this.#folder = readFileSync(where, 'utf8').trim();
  }

  /** The text with addresses that are free on this machine in place of those of the README. */
  #own(text: string): string {
    const [tcp, http] = [this.#ports.get('8081'), this.#ports.get('8080')];
    const asked = `--port ${tcp} --metrics http://127.0.0.1:${http}/metrics`;
    return [...this.#ports]
      .reduce((command, [port, free]) => command.replaceAll(new RegExp(`\\b${port}\\b`, 'g'), String(free)), text)
      .replace('URL-OF-THIS-REPOSITORY', this.#places.source)
      .replaceAll(/npm run simulate( --)?/g, `npm run simulate -- ${asked}`)
      .replaceAll('ml-tcp-server simulate', `ml-tcp-server simulate ${asked}`)
      .replace('ml-tcp-server top', `ml-tcp-server top --metrics http://127.0.0.1:${http}`)
      .replace(/examples\/client\.py$/m, `examples/client.py 127.0.0.1 ${tcp}`)
      .replace(/npm run fuzz -- \w+$/m, '$& --seconds 1');
  }

  /** Writes it to a folder that git ignores, as the reader's own file. Returns its path. */
  #written(name: string, text: string): string {
    const file = join('build', name);
    mkdirSync(join(this.#places.checkout, 'build'), { recursive: true });
    writeFileSync(join(this.#places.checkout, file), this.#own(text));
    return file;
  }

  /** Provides what `npm ci` would, so that the first start has only to build: the modules of this checkout. */
  #haveModules(): void {
    const { checkout } = this.#places;
    const modules = join(checkout, 'node_modules');
    if (existsSync(modules)) return;
    try {
      execFileSync('cp', ['-al', `${root}node_modules`, modules], { stdio: 'ignore' });
    } catch {
      cpSync(`${root}node_modules`, modules, { recursive: true, verbatimSymlinks: true }); // on another disk
    }
    symlinkSync('../src/client', join(modules, 'ml-tcp-server-client'));
  }

  /** Compiles a model in TypeScript, and serves it. */
  async #serveModule(text: string): Promise<void> {
    const file = this.#written('program.ts', text);
    await this.#finish(
      `npx tsc --strict --module nodenext --target es2022 --skipLibCheck --ignoreConfig --types node ${file}`,
    );
    const models = [{ name: 'own', backend: 'module', path: file.replace('.ts', '.js') }];
    const config = this.#written('program.json', JSON.stringify({ models, server: { model: 'own' } }));
    await this.#serve(`npx ml-tcp-server start --config ${config}`);
    await this.#finish('npm run simulate -- --payload-size 16 -n 100');
  }
}

/** Signals a process and all that it has started, unless it has ended already. */
function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

describe('what the READMEs say to run elsewhere', () => {
  it('is what they say, and what says so is there', () => {
    for (const entry of elsewhere) {
      const { heading, command, test } = entry;
      const isSaid = allBlocks.some(
        (block) => block.language === 'sh' && commandsOf(block).some((said) => reasonAgainst(block, said) === entry),
      );
      expect(isSaid, `${heading}: ${command}`).to.equal(true);
      if (test !== undefined) expect(readFileSync(`${root}test/${test[0]}`, 'utf8')).to.include(test[1]);
    }
  });

  it('has scripts that there are, and the version that there is', () => {
    const { scripts, version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
      scripts: Readonly<Record<string, string>>;
      version: string;
    };
    const commands = allBlocks.filter(({ language }) => language === 'sh').flatMap(commandsOf);
    for (const command of commands) {
      const [, script] = /\bnpm run ([\w-]+)/.exec(command) ?? [];
      if (script !== undefined) expect(Object.keys(scripts)).to.include(script);
      const [, packed] = /ml-tcp-server-(\d+\.\d+\.\d+)\.tgz/.exec(command) ?? [];
      if (packed !== undefined) expect(packed).to.equal(version);
    }
  });
});

describe('the nginx of the README', () => {
  afterEach(endProcesses);

  it('passes on the page, the metrics and the feeds under its path', async function () {
    if (!hasNginx) skip(this, 'nginx is not installed (Debian: nginx-light)');
    const port = await freePort();
    const args = [`${root}bundle/cli.js`, 'start', '--port', '0', '--http-port', String(port), '-w', '1'];
    const server = new TestProcess(process.execPath, args, { env: cleanEnv() });
    await server.line('ready', (line) => line.includes('"msg":"ready"'));
    const [http = '', location = ''] = ['http', 'server'].map((place) =>
      allBlocks
        .filter(({ language, name }) => language === 'nginx' && name === place)
        .map(({ text }) => text.replaceAll(/server 10[\d.]+:8080;/g, `server 127.0.0.1:${port};`))
        .join('\n'),
    );
    const address = await startNginx({ http, server: location });
    for (const path of ['', 'metrics', 'healthz']) {
      const response = await fetch(`http://${address}/ml/${path}`);
      expect(response.status, path).to.equal(200);
      await response.text();
    }
    const feed = new WebSocket(`ws://${address}/ml/metrics`);
    const first = await new Promise<string>((resolve, reject) => {
      feed.once('message', (data) => resolve(String(data))).once('error', reject);
    });
    feed.terminate();
    expect(JSON.parse(first)).to.have.property('total_requests');
  });
});
