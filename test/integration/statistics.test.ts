// The statistics of a node, as any of its workers tells them: clients take the difference of two answers.

import { writeFileSync } from 'node:fs';
import { expect } from 'chai';
import type { ModelStatistics } from '#src/metrics/statistics.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root, workersOf } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { RedisServer } from '../support/redis-server.js';
import { type LogLine, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

interface Told {
  readonly pid: number;
  readonly statistics: ModelStatistics;
}

interface TritonStatistics {
  readonly name: string;
  readonly inference_count: number;
  readonly inference_stats: Readonly<Record<'success' | 'fail' | 'queue' | 'compute_infer', { count: number }>>;
}

/** A node of two workers that serves the dummy, and tells its statistics on its second listener. */
async function startNode(env: Readonly<Record<string, string>>): Promise<Node> {
  const file = `${temporaryFolder()}/config.json`;
  const settings = { of: 'dummy', dist: `${root}dist/` };
  const path = `${root}test/support/models/statistics.mjs`;
  const models = [{ name: 'statistics', backend: 'module', path, execution: 'inline', settings }];
  const listeners = [{ model: 'dummy' }, { model: 'statistics' }, { protocol: 'open', models: ['dummy'] }];
  const anywhere = { host: '127.0.0.1', port: 0 };
  // A connection that tells stays with its worker: one that moved might be lost with another.
  const cluster = { moveConnections: false };
  writeFileSync(
    file,
    JSON.stringify({ models, listeners: listeners.map((one) => ({ ...anywhere, ...one })), cluster }),
  );
  const server = new TestServer({
    args: ['--config', file, '--workers', '2'],
    env: { RESPONSE_SIZE: '20', ...env },
    hasListeners: true,
  });
  const { tcp } = (await server.event('ready')) as LogLine & { tcp: readonly string[] };
  const [asked, telling, open] = tcp.map((text) => Number(/:(\d+) /.exec(text)?.[1])) as [number, number, number];
  return new Node(server, asked, telling, open);
}

class Node {
  /** Requests whose replies have come. */
  sent = 0;
  readonly server: TestServer;
  readonly port: number;
  /** The port where it tells its statistics. */
  readonly telling: number;
  readonly #open: number;

  constructor(server: TestServer, port: number, telling: number, open: number) {
    this.server = server;
    this.port = port;
    this.telling = telling;
    this.#open = open;
  }

  /** As clients of HTTP are told, on a new connection, which goes to the worker that has the fewest. */
  async overHttp(): Promise<TritonStatistics> {
    const url = `http://127.0.0.1:${this.#open}/v2/models/dummy/stats`;
    const response = await fetch(url, { headers: { connection: 'close' } });
    return ((await response.json()) as { model_stats: [TritonStatistics] }).model_stats[0];
  }

  /** Has requests answered: as many on each of these connections. */
  async send(clients: readonly RawClient[], each: number): Promise<void> {
    const before = clients.map(({ replies }) => replies.length);
    for (const client of clients) client.send(...new Array<Buffer>(each).fill(Buffer.from('x')));
    for (const [i, client] of clients.entries()) await client.replied((before[i] as number) + each);
    this.sent += each * clients.length;
  }

  connect(count: number, port = this.port): Promise<readonly RawClient[]> {
    return Promise.all(Array.from({ length: count }, () => RawClient.connect(port)));
  }

  /** A connection to each of two workers, on which they tell the statistics. */
  async tellers(): Promise<readonly [RawClient, RawClient]> {
    const byPid = new Map<number, RawClient>();
    await until('connections to both workers', async () => {
      const client = await RawClient.connect(this.telling);
      byPid.set((await ask(client)).pid, client);
      return byPid.size === 2;
    });
    return [...byPid.values()] as [RawClient, RawClient];
  }
}

async function ask(client: RawClient): Promise<Told> {
  const before = client.replies.length;
  client.send(Buffer.from('?'));
  await client.replied(before + 1);
  return JSON.parse(String(client.replies[before])) as Told;
}

describe('the statistics of a node', function () {
  this.timeout(60_000);
  afterEach(endProcesses);

  for (const where of ['embedded', 'with Redis'] as const) {
    it(`are the same whichever worker tells them, exact to the last reply, and never fall (${where})`, async () => {
      const env: Record<string, string> = where === 'embedded' ? {} : { REDIS_URL: (await RedisServer.start()).url };
      const node = await startNode(env);
      const clients = await node.connect(4);
      const tellers = await node.tellers();
      let before: ModelStatistics | null = null;
      for (let round = 0; round < 10; round++) {
        await node.send(clients, 1 + 50 * round);
        const { statistics } = await ask(tellers[round % 2] as RawClient);
        expect(statistics).to.include({ requests: node.sent, answered: node.sent, failed: 0, run: node.sent });
        expect(statistics.rows).to.equal(node.sent);
        const { inference_count, inference_stats } = await node.overHttp();
        expect([inference_count, inference_stats.success.count, inference_stats.compute_infer.count]).to.deep.equal(
          new Array(3).fill(node.sent),
        );
        expect(statistics.calls).to.be.within(1, node.sent);
        expect(statistics.answeredNs).to.be.at.least(statistics.runNs / 1.02);
        expect(statistics.lastRunAt).to.be.at.most(Date.now());
        for (const name of ['answeredNs', 'queuedNs', 'runNs', 'calls'] as const)
          expect(statistics[name], name).to.be.above(before?.[name] ?? 0);
        before = statistics;
      }
      await until('the last run', async () => (await ask(tellers[0])).statistics.lastRunAt > Date.now() - 60_000);
      const askers = await node.connect(40, node.telling);
      const told = await Promise.all(askers.map(ask));
      expect(new Set(told.map(({ statistics }) => statistics.answered))).to.deep.equal(new Set([node.sent]));

      const [victim] = await Promise.all(tellers.map(async (teller) => ({ teller, pid: (await ask(teller)).pid })));
      process.kill(victim?.pid as number, 'SIGKILL');
      const [, survivor] = tellers;
      // At every moment of the death: known dead or not, folded or not.
      await until('the replacement', async () => {
        const { statistics } = await ask(survivor);
        expect(statistics.answered).to.equal(node.sent);
        return node.server.count('worker replaced') === 1;
      });
      expect(workersOf(node.server)).to.not.include(victim?.pid);
      const [newer, other] = await node.tellers();
      await node.send(await node.connect(4), 25);
      for (const teller of [newer, other])
        expect((await ask(teller)).statistics).to.include({ requests: node.sent, answered: node.sent, run: node.sent });
      // A reload replaces both workers.
      node.server.signal('SIGHUP');
      await node.server.event('reloaded');
      await node.send(await node.connect(2), 10);
      for (const teller of await node.tellers()) expect((await ask(teller)).statistics.answered).to.equal(node.sent);
    });
  }
});
