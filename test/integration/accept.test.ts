// Connections on their way from the primary, which accepts them, to the workers, which serve them.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ServerStatus } from '#src/control/protocol.js';
import { maxUnacknowledged } from '#src/primary/connections/dispatcher.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const env = { MODEL: 'dummy', WORKERS: '2' };

async function statusOf(server: TestServer): Promise<ServerStatus> {
  return JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
}

async function askAll(port: number, count: number): Promise<readonly RawClient[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => RawClient.connect(port)));
  for (const client of clients) client.send(Buffer.from('x'));
  return clients;
}

async function expectReplies(clients: readonly RawClient[]): Promise<void> {
  for (const client of clients) expect(String((await client.replied(1))[0])).to.equal('XXXXX');
}

describe('a client that connects', function () {
  this.timeout(60_000);
  afterEach(endProcesses);

  /** Makes every process of the server load this script first. */
  function changedNode(script: string): Readonly<Record<string, string>> {
    const file = join(temporaryFolder(), 'changed-node.mjs');
    writeFileSync(file, script);
    return { NODE_OPTIONS: `--import=${file}` };
  }

  const withoutBinding = `process.binding = () => { throw new Error('no such module'); };`;

  for (const [how, more] of [
    ['', {}],
    [', where handles pass through Node itself', changedNode(withoutBinding)],
  ] as const) {
    it(`while its worker stands still, and is killed, is served by another one${how}`, async () => {
      const server = new TestServer({ env: { ...env, ...more }, args: ['--set', 'cluster.hangTimeoutMs=60000'] });
      const port = await server.port();
      expect(
        server.count('connections pass to workers through Node itself here, which takes more time for each'),
      ).to.equal(how === '' ? 0 : 1);
      const [stopped] = await server.workerPids();
      process.kill(stopped as number, 'SIGSTOP');
      const clients = await askAll(port, 60);
      await until('what a worker that lives can answer', () => {
        const answered = clients.filter(({ replies }) => replies.length > 0);
        return answered.length === 60 - maxUnacknowledged;
      });
      process.kill(stopped as number, 'SIGKILL');
      await expectReplies(clients);
      for (const client of clients) client.destroy();
    });
  }

  it('while no worker lives waits for the next one', async () => {
    const server = new TestServer({ env });
    const port = await server.port();
    for (const pid of await server.workerPids()) process.kill(pid, 'SIGKILL');
    await until('both to be dead', () => server.count('worker died') === 2);
    await expectReplies(await askAll(port, 40));
  });

  it('waits no longer than config says; it is counted then, and its place is free', async () => {
    const args = ['--set', 'cluster.hangTimeoutMs=60000', '--set', 'server.acceptTimeoutSeconds=1'];
    const server = new TestServer({ env: { ...env, MAX_CONNECTIONS: '40' }, args });
    const port = await server.port();
    const pids = await server.workerPids();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    const clients = await askAll(port, 40);
    await until(
      'those to be closed that no worker was sent',
      () => clients.filter(({ socket }) => socket.closed).length === 8,
    );
    for (const pid of pids) process.kill(pid, 'SIGCONT');
    await expectReplies(clients.filter(({ socket }) => !socket.closed));
    await until('their count', async () => (await server.prometheus()).includes('{reason="wait"} 8\n'));
    await expectReplies(await askAll(port, 8));
  });

  it('goes to the worker that has the fewest, from the first moment', async () => {
    const args = ['--set', 'cluster.moveConnections=false'];
    const server = new TestServer({ env: { ...env, WORKERS: '3' }, args });
    const port = await server.port();
    const connectionsOf = async () => (await statusOf(server)).workers.map(({ connections }) => connections);
    await expectReplies(await askAll(port, 30));
    expect(await connectionsOf()).to.deep.equal([10, 10, 10]);
    const [killed] = await server.workerPids();
    process.kill(killed as number, 'SIGKILL');
    await server.event('worker replaced');
    await expectReplies(await askAll(port, 10));
    expect(await connectionsOf()).to.deep.equal([10, 10, 10]);
  });

  it('finds no server where Node has changed inside: it says so, and which version it is', async () => {
    const script = `process.binding('tcp_wrap').TCP.prototype.getpeername = () => -1;`;
    const server = new TestServer({ env: { ...env, ...changedNode(script) } });
    const { code } = await server.ended();
    expect(code).to.equal(9);
    const [fatal] = server.log.filter(({ level }) => level === 'fatal');
    expect(fatal?.msg).to.include(`Node ${process.version} has changed inside: the address of a client`);
  });
});
