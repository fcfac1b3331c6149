// Machines with their own addresses, whose clocks differ by minutes, and a cable that is unplugged.

import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { Metrics } from '#src/aggregator/metrics.js';
import { Networks } from '../support/networks.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { cleanEnv } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const isInstalled = (program: string): boolean =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));

describe('machines of their own', function () {
  this.timeout(90_000);
  let networks: Networks | null = null;
  before(function () {
    networks = isInstalled('ip') ? Networks.create() : null;
    if (networks === null) skip(this, 'network namespaces need Linux, root and the ip command (Debian: iproute2)');
  });
  after(async () => {
    await endProcesses();
    networks?.remove();
  });

  it('are one cluster, exact through a pulled cable, whatever their clocks say', async () => {
    const { machine, cable } = { machine: networks?.machine.bind(networks), cable: networks?.cable.bind(networks) };
    if (machine === undefined || cable === undefined) throw new Error('there are no networks');
    const start = (on: ReturnType<typeof machine>, command: readonly string[], env: Record<string, string> = {}) => {
      const [program = '', ...args] = on.run(command);
      return new TestProcess(program, args, { env: { ...cleanEnv(env), FAKETIME_DONT_FAKE_MONOTONIC: '1' } });
    };
    const center = machine('center', '10.77.0.1');
    const redisServer = [
      'redis-server',
      '--bind',
      center.address,
      '--protected-mode',
      'no',
      '--save',
      '',
      '--port',
      '6379',
    ];
    await start(center, redisServer).line('Redis', (line) => line.includes('Ready to accept connections'));
    const env = { REDIS_URL: `redis://${center.address}:6379` };
    const cli = [process.execPath, `${root}bundle/cli.js`];
    const aggregator = start(center, [...cli, 'aggregator', '--http-host', center.address], env);
    await aggregator.line('an aggregator', (line) => line.includes('"msg":"ready"'));

    const faketime = readdirSync('/usr/lib')
      .map((folder) => join('/usr/lib', folder, 'faketime/libfaketime.so.1'))
      .find((file) => existsSync(file));
    const nodes = ['+10m', '-10m', '+0m'].map((skew, i) => {
      const on = machine(`n${i}`, `10.77.0.${10 + i}`);
      const clock = faketime === undefined ? {} : { LD_PRELOAD: faketime, FAKETIME: skew };
      const command = [...cli, 'start', '--host', on.address, '--model', 'dummy', '--workers', '1'];
      return { on, process: start(on, command, { ...env, ...clock, NODE_NAME: `n${i}` }) };
    });
    for (const node of nodes) await node.process.line('a node', (line) => line.includes('"msg":"ready"'));

    const metrics = async (): Promise<Metrics> => {
      const fetching = `fetch('http://${center.address}:8080/metrics').then(async (r) => console.log(await r.text()))`;
      const [program = '', ...args] = center.run([process.execPath, '-e', fetching]);
      return JSON.parse((await promisify(execFile)(program, args, { env: cleanEnv() })).stdout) as Metrics;
    };
    const when = (what: string, isThere: (found: Metrics) => boolean) =>
      until(what, async () => isThere(await metrics()), { timeoutMs: 30_000, intervalMs: 200 });
    const ask = async (i: number, requests: number): Promise<void> => {
      const node = nodes[i];
      if (node === undefined) throw new Error('there is no such node');
      const target = ['--host', node.on.address, '--requests', String(requests), '--clients', '2'];
      const sizes = ['--payload-size', '16', '--metrics', 'none'];
      const simulation = start(node.on, [...cli, 'simulate', ...target, ...sizes]);
      expect(await simulation.ended(), simulation.output).to.have.property('code', 0);
    };
    const states = ({ nodes: all }: Metrics) => all.map(({ node, state }) => `${node} ${state}`).sort();

    await Promise.all([ask(0, 100), ask(1, 200), ask(2, 300)]);
    await when('600 requests of three nodes that are up', (found) => {
      return found.total_requests === 600 && states(found).join() === 'n0 up,n1 up,n2 up';
    });
    const { uptime, initial_time, audit_imbalance } = await metrics();
    expect(uptime).to.be.within(1, 60);
    expect(Math.abs(Date.now() - Date.parse(initial_time))).to.be.below(90_000);
    expect(audit_imbalance).to.equal(0);

    cable('n0', 'down');
    await when('a node that is down', (found) => states(found).join() === 'n0 down,n1 up,n2 up');
    await Promise.all([ask(0, 1000), ask(1, 1)]);
    await when('what others count', ({ total_requests }) => total_requests === 601);
    cable('n0', 'up');
    await when('all of it', (found) => found.total_requests === 1601 && states(found)[0] === 'n0 up');
  });
});
