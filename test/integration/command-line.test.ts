// What the command line says when something is wrong, and that it exits with 2, after which no process manager
// restarts.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { cleanEnv, type LogLine } from '../support/server.js';

interface Ended {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly output: string;
}

async function cli(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd = root): Promise<Ended> {
  const child = new TestProcess(process.execPath, [`${root}bundle/cli.js`, ...args], { cwd, env: cleanEnv(env) });
  const { code } = await child.ended();
  return { code, lines: child.lines, output: child.output };
}

/** The only line of the log. */
function only({ lines }: Ended): LogLine {
  expect(lines, lines.join('\n')).to.have.lengthOf(1);
  return JSON.parse(lines[0] ?? '') as LogLine;
}

const commands = ['start', 'aggregator', 'inspect', 'simulate', 'config', 'status', 'reload', 'scale', 'drain', 'top'];

describe('the command line', function () {
  this.timeout(30_000);
  afterEach(endProcesses);

  it('exits with 2 for whatever is wrong with a command, and with 0 for help', async () => {
    const wrong: string[][] = [
      ...commands.map((command) => [command, ...(command === 'scale' ? ['2'] : []), '--porrt', '5']),
      ['start', 'one-too-many'],
      ['status', 'one-too-many'],
      [],
      ['strat'],
      ['--porrt', 'start'],
      ['scale'],
      ['scale', 'many'],
      ['start', '--port'],
      ['start', '--set', 'server.maxConections=5'],
      ['aggregator', '--set', 'nonsense'],
      ['config', '--set', 'server.port=http'],
      ['status', '--pid', 'mine'],
      ['top', '--metrics', 'nowhere'],
      ['top', '--metrics', 'http://['],
      ['simulate', '--metrics', 'ftp://host'],
      ['simulate', '--length-field-size', '2', '--payload-size', '100000'],
      ['simulate', '--zeros'],
      ['inspect', '--model', 'no-such-model'],
      ['inspect', '--config', 'no/such/file'],
      ['inspect', 'one.onnx', 'two.onnx'],
      ['simulate', '--payload', 'no/such/file'],
    ];
    const ended = await Promise.all(wrong.map((args) => cli(args)));
    for (const [i, { code, output }] of ended.entries()) {
      expect(code, `${wrong[i]?.join(' ')}: ${output}`).to.equal(2);
      expect(output, 'no stack').not.to.match(/^\s+at /m);
    }
    const right = await Promise.all([['--help'], ['start', '--help']].map((args) => cli(args)));
    expect(right.map(({ code }) => code)).to.deep.equal([0, 0]);
  });

  it('says what is wrong in a line of the log, where logs are JSON, as everything else', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, '.env'));
    writeFileSync(join(folder, 'bad.json'), '{"server": ');
    const tries: [string, string[], Record<string, string>, RegExp, string?][] = [
      ['primary', ['start', '--porrt', '5'], {}, /^unknown option '--porrt' \(Did you mean --port\?\)/],
      ['primary', ['start', '--set', 'server.prot=5'], {}, /there is no setting server\.prot/],
      [
        'primary',
        ['start'],
        { WORKERS: 'many', NODE_NAME: 'n7' },
        /a mistake:\n {2}- cluster\.workers: must be 'auto'/,
      ],
      ['primary', ['start', '--config', 'bad.json'], {}, /bad\.json: cannot be read/, folder],
      ['primary', ['start'], {}, /\.env: cannot be read: EISDIR/, folder],
      ['primary', ['start', '--log-level', 'loud', '--set', 'log.format=json'], {}, /log\.level: must be one of/],
      ['aggregator', ['aggregator'], { HTTP_PORT: 'x' }, /http\.port: must be a port/],
      ['aggregator', ['aggregator'], {}, /reads the metrics from Redis: set redis\.url/],
    ];
    const ended = await Promise.all(tries.map(([, args, env, , cwd]) => cli(args, env, cwd)));
    for (const [i, [role, , { NODE_NAME }, message]] of tries.entries()) {
      const line = only(ended[i] as Ended);
      expect(line).to.include({ level: 'fatal', role, code: 'CONFIG_INVALID' });
      expect(line).to.have.keys('level', 'time', 'role', 'node', 'pid', 'code', 'msg');
      expect(line.msg).to.match(message);
      if (NODE_NAME !== undefined) expect(line.node).to.equal(NODE_NAME);
    }
  });

  it('says it for people where config asks for that, even if the rest of it is wrong', async () => {
    const { code, output } = await cli(['start', '--set', 'log.format=pretty', '--port', 'x']);
    expect(code).to.equal(2);
    expect(output).to.include('server.port: must be a port').and.not.include('"level"');
  });

  it('never repeats a value, which may be secret or long', async () => {
    const secret = 'hunter2'.repeat(1000);
    for (const args of [
      ['start', '--set', `http.tokn=${secret}`],
      ['start', `--htp-token=${secret}`],
      ['config', '--set', `http.tokn=${secret}`],
      ['top', `--tokn=${secret}`],
      ['start', '--redis-url', secret],
    ]) {
      const { code, output } = await cli(args);
      expect(code).to.equal(2);
      expect(output).not.to.include('hunter2');
      expect(output.length).to.be.below(1000);
    }
  });

  it('finds two settings of its own that name one port, before anything is bound', async () => {
    for (const [args, env, names] of [
      [['-p', '1', '--http-port', '1'], {}, ['http.port (HTTP_PORT)', 'server.port (PORT)']],
      [[], { PORT: '9107', HTTP_PORT: '9107', HOST: '0.0.0.0' }, ['0.0.0.0:9107', '127.0.0.1:9107']],
      [[], { PORT: '9107', HTTP_PORT: '9107', HOST: 'localhost', HTTP_HOST: '::1' }, ['[::1]:9107', 'localhost:9107']],
    ] as const) {
      const line = only(await cli(['start', ...args], { MODEL: 'dummy', ...env }));
      expect(line).to.include({ code: 'CONFIG_INVALID' });
      for (const name of names) expect(line.msg).to.include(name);
      expect(line.msg).not.to.include('stop the process');
    }
  });

  it('lets the two ports be the same where they are of different machines: with Redis', async () => {
    const { code, output } = await cli(['config', '-p', '9107', '--http-port', '9107'], {
      REDIS_URL: 'redis://127.0.0.1:1',
    });
    expect(code, output).to.equal(0);
  });

  it('names the setting of the host when a host is wrong', async () => {
    const dummy = { MODEL: 'dummy', WORKERS: '1', PORT: '0', HTTP_PORT: '0' };
    for (const [env, setting] of [
      [{ HOST: 'no.such.host.invalid' }, 'server.host (HOST)'],
      [{ HTTP_HOST: '203.0.113.1' }, 'http.host (HTTP_HOST)'],
    ] as const) {
      const { code, output } = await cli(['start'], { ...dummy, ...env });
      expect(code, output).to.equal(3);
      expect(output).to.include(setting).and.not.include('_PORT)').and.not.include('(PORT)');
    }
  });

  it("ends with one clear line when it was forked by another's node:cluster, as PM2 does with -i", async () => {
    for (const [command, role] of [
      ['start', 'primary'],
      ['aggregator', 'aggregator'],
    ] as const) {
      const script = `
        import cluster from 'node:cluster';
        cluster.setupPrimary({ exec: ${JSON.stringify(`${root}bundle/cli.js`)}, execArgv: [], args: [${JSON.stringify(command)}] });
        cluster.fork().once('exit', (code) => process.exit(code));`;
      const child = new TestProcess(process.execPath, ['--input-type=module', '-e', script], { env: cleanEnv() });
      expect(await child.ended()).to.deep.equal({ code: 2, signal: null });
      const line = only({ code: 2, lines: child.lines, output: child.output });
      expect(line).to.include({ level: 'fatal', role, code: 'CONFIG_INVALID' });
      expect(line.msg).to.include('cluster mode').and.include('fork mode');
    }
  });
});
