// A new user's first minute, and the clients that come with the project.

import { type AddressInfo, createServer } from 'node:net';
import { expect } from 'chai';
import { encodeFrame, FrameDecoder } from '#src/protocol/frames.js';
import { endProcesses, isRunning, root, TestProcess } from '../support/processes.js';
import { cleanEnv, type LogLine, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const run = (command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): TestProcess =>
  new TestProcess(command, args, { cwd: root, env: cleanEnv(env) });

describe('a new user', () => {
  afterEach(endProcesses);

  it('starts the server with npm start, simulates with npm run simulate, and sees the totals agree', async function () {
    this.timeout(60_000);
    const server = run('npm', ['start', '--', '--port', '0', '--http-port', '0']);
    const line = await server.line('ready', (text) => text.includes('"msg":"ready"'), 40_000);
    const ready = JSON.parse(line) as LogLine & { tcp: readonly string[]; metrics: string };
    const port = /:(\d+) /.exec(ready.tcp[0] ?? '')?.[1] as string;
    const simulation = run('npm', [
      'run',
      'simulate',
      '--',
      '-p',
      port,
      '--metrics',
      ready.metrics,
      '-n',
      '7200',
      '-c',
      '5',
      '-d',
      '16',
    ]);
    const exit = await simulation.ended(40_000);
    expect(exit.code, simulation.output).to.equal(0);
    const accuracy = Number(/accuracy +([\d.]+) % of 7200 digits/.exec(simulation.output)?.[1]);
    expect(accuracy).to.be.at.least(97);
    expect(simulation.output).to.match(/requests\/s +\d+ \(7200 replies/);
    expect(simulation.output).to.match(/latency +p50 [\d.]+ ms, p90 /);
    expect(simulation.output).to.match(/errors +0 failed, 0 wrong, 0 lost/);
    expect(simulation.output).to.include(
      'totals agree: server 7200 requests, 0 errors; clients 7200 requests, 0 errors',
    );
    process.kill(ready.pid, 'SIGINT');
    await server.line('the end', (text) => text.includes('"msg":"stopped"'));
    await until('the server to be gone', () => !isRunning(ready.pid));
  });

  it('can give the simulation a rate, a payload size, a depth and another model', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy' } });
    const args = ['simulate', '-p', String(await server.port()), '--metrics', `${await server.url()}/metrics`];
    const simulation = run('node', [
      'bundle/cli.js',
      ...args,
      '-n',
      '500',
      '-r',
      '1000',
      '--payload-size',
      '3000',
      '-c',
      '2',
      '-d',
      '4',
    ]);
    expect((await simulation.ended()).code, simulation.output).to.equal(0);
    const [, rate] = /requests\/s +(\d+)/.exec(simulation.output) ?? [];
    expect(Number(rate)).to.be.within(500, 1100);
    expect(simulation.output).not.to.include('accuracy');
    expect(simulation.output).to.include('totals agree');
  });

  it('sees a stall of the server as clients at that rate would: no request waits for the reply of another', async () => {
    // Answers after 20 ms, except for one second in which it answers nothing: requests of that second wait for its end.
    const [delayMs, stallAtMs, stallMs] = [20, 1000, 1000];
    const arrivals: number[] = [];
    const server = createServer((socket) => {
      const decoder = new FrameDecoder(4, 1000);
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        decoder.push(chunk);
        while (decoder.next() === 'frame') {
          arrivals.push(performance.now());
          const sinceFirst = performance.now() - (arrivals[0] as number);
          const isStalled = sinceFirst >= stallAtMs && sinceFirst < stallAtMs + stallMs;
          const waitMs = isStalled ? stallAtMs + stallMs - sinceFirst : delayMs;
          setTimeout(() => socket.write(encodeFrame(Buffer.from('x'), 4)), waitMs);
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    // One client with a depth of one: in a closed loop the stall would cost it a single slow request.
    const args = [
      '-p',
      String(port),
      '--metrics',
      'none',
      '--payload-size',
      '10',
      '-n',
      '900',
      '-r',
      '300',
      '-c',
      '1',
      '-d',
      '1',
    ];
    const simulation = run('node', ['bundle/cli.js', 'simulate', ...args]);
    expect((await simulation.ended()).code, simulation.output).to.equal(0);
    server.close();
    const quantile = (name: string): number =>
      Number(new RegExp(`latency .*${name} ([\\d.]+) ms`).exec(simulation.output)?.[1]);
    // A third of all requests met the stall and waited for 0 to 1000 ms: the 0.9 quantile is 700 ms, the 0.99 quantile
    // 970.
    expect(quantile('p50')).to.be.within(19.7, 400);
    expect(quantile('p90')).to.be.within(600, 1600);
    expect(quantile('p99')).to.be.within(900, 1900);
    // Requests arrived when they were due, stall or not.
    const before = arrivals.filter((at) => at - (arrivals[0] as number) < stallAtMs + stallMs).length;
    expect(before).to.be.within(450, 640);
    expect(simulation.output).to.match(/^sent +p99 [\d.]+ ms after it was due/m);
  });

  it('never sees a latency of nothing, however quick the server', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1' } });
    const args = ['-p', String(await server.port()), '--metrics', 'none', '--payload-size', '10', '-c', '2'];
    for (const rate of ['70', '700']) {
      const simulation = run('node', ['bundle/cli.js', 'simulate', ...args, '-n', rate, '-r', rate]);
      expect((await simulation.ended()).code, simulation.output).to.equal(0);
      const p50 = Number(/p50 ([\d.]+) ms/.exec(simulation.output)?.[1]);
      // A round trip over loopback, between two processes.
      expect(p50).to.be.at.least(0.01);
    }
  });

  it('is told by the simulation when replies are wrong and when totals differ', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', RESPONSE_SIZE: '40' } });
    const port = String(await server.port());
    const wrong = run('node', ['bundle/cli.js', 'simulate', '-p', port, '--metrics', 'none', '-n', '100']);
    expect((await wrong.ended()).code).to.equal(1);
    expect(wrong.output).to.include('100 wrong');
    const other = new TestServer({ env: { MODEL: 'dummy' } });
    const metrics = `${await other.url()}/metrics`;
    const differ = run('node', [
      'bundle/cli.js',
      'simulate',
      '-p',
      port,
      '--metrics',
      metrics,
      '-n',
      '100',
      '--payload-size',
      '1',
    ]);
    expect((await differ.ended()).code).to.equal(1);
    expect(differ.output).to.include('totals DIFFER: server 0 requests, 0 errors; clients 100 requests');
  });

  it('is told what to do when no server is there, or a flag is wrong', async () => {
    const alone = run('node', ['bundle/cli.js', 'simulate', '-p', '1', '--metrics', 'none']);
    expect((await alone.ended()).code).to.equal(1);
    expect(alone.output).to.include('cannot connect to 127.0.0.1:1').and.include('npm start');
    const flags = run('node', ['bundle/cli.js', 'simulate', '-p', 'x', '-n', '0']);
    expect((await flags.ended()).code).to.equal(2);
    expect(flags.output).to.include('--port: must be').and.include('--requests: must be');
  });

  it('can read the help and the settings', async () => {
    for (const args of [
      ['--help'],
      ['start', '--help'],
      ['simulate', '--help'],
      ['config', '--help'],
      ['aggregator', '--help'],
    ]) {
      const help = run('node', ['bundle/cli.js', ...args]);
      expect((await help.ended()).code).to.equal(0);
      expect(help.output).to.include('Usage: ml-tcp-server');
    }
    const config = run('node', ['bundle/cli.js', 'config', '--json', '-s', 'server.maxConnections=7'], {
      REDIS_URL: 'redis://u:secret@h:1',
    });
    expect((await config.ended()).code).to.equal(0);
    const settings = JSON.parse(config.output) as { key: string; value: unknown; source: string }[];
    expect(settings).to.deep.include({ key: 'server.maxConnections', value: 7, source: 'flag server.maxConnections' });
    expect(config.output).not.to.include('secret');
  });

  it('runs the Python example against the shipped model', async () => {
    const server = new TestServer();
    const client = run('python3', ['scripts/examples/client.py', '127.0.0.1', String(await server.port())]);
    expect((await client.ended()).code, client.output).to.equal(0);
    expect(client.lines).to.have.lengthOf(10);
    const right = client.lines.filter((line) => /label (\d) {2}answer \1 /.test(line));
    expect(right.length).to.be.at.least(9);
  });

  it('runs the example of a model and its client', async () => {
    const server = new TestServer({ args: ['--config', 'scripts/examples/model.json'] });
    const client = run('node', ['scripts/examples/client.mjs', '127.0.0.1', String(await server.port())]);
    expect((await client.ended()).code, client.output).to.equal(0);
    expect(client.lines[0]).to.equal('0 numbers: refused');
    expect(client.lines[3]).to.equal('3 numbers: mean 2.00, deviation 0.82');
    const metrics = await server.metricsWhen('all requests', ({ total_requests }) => total_requests === 10);
    expect(metrics).to.include({ errors: 1, inference_errors: 1 });
    expect(server.log.find(({ msg }) => msg === 'inference failed')).to.include({
      role: 'worker',
      level: 'error',
      model: 'statistics',
    });
  });
});

describe('a client of the original server', () => {
  afterEach(endProcesses);

  for (const lengthFieldSize of ['2', '4', '8']) {
    it(`works unchanged with length fields of ${lengthFieldSize} bytes`, async () => {
      const env = { MODEL: 'dummy', RESPONSE_SIZE: '5', LENGTH_FIELD_SIZE: lengthFieldSize };
      const server = new TestServer({ env });
      const args = ['scripts/examples/original_client.py', '127.0.0.1', String(await server.port()), '5'];
      const client = run('python3', args, { LENGTH_FIELD_SIZE: lengthFieldSize });
      expect((await client.ended()).code, client.output).to.equal(0);
      expect(client.output).to.include('500 requests over 5 connections, 0 wrong replies');
    });
  }
});
