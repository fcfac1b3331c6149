// The folder where workers keep their counts, and what other servers left there: containers may share it, and pids have
// no meaning across them.

import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Metrics } from '#src/aggregator/metrics.js';
import { clusterIdentity } from '#src/config/describe.js';
import { loadConfig } from '#src/config/load.js';
import { CounterFile, counterFilePath } from '#src/metrics/counter-file.js';
import { Recorder } from '#src/metrics/recorder.js';
import { ask, startNode, TestAggregator } from '../support/cluster.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, isRunning, workersOf } from '../support/processes.js';
import { RedisServer } from '../support/redis-server.js';
import { type ServerOptions, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const answered = ({ models }: Metrics): number => models.reduce((sum, model) => sum + model.answered, 0);
const counterFilesIn = (folder: string): readonly string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.slab'));

let runs = 0;
interface Leftover {
  readonly cluster?: string;
  readonly node?: string;
  readonly answered?: number;
  /** What its header says of the process that wrote it. */
  readonly identity?: object;
}

/** Leaves the file of a worker that was killed together with its server, so that no lock is held. Returns the file. */
function leave(folder: string, { cluster = 'embedded', node = 'n', answered = 1, identity = {} }: Leftover): string {
  const owner = { cluster, node, run: `old${runs++}-abcdef`, slot: 0, incarnation: 1 };
  const recorder = new Recorder(['dummy']);
  recorder.model('dummy').count('received', answered);
  recorder.model('dummy').count('answered', answered);
  new CounterFile(folder, owner, recorder).close();
  const file = counterFilePath(folder, owner);
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.toString('utf8', 0, bytes.indexOf(0)));
  bytes.fill(0, 0, 4096);
  bytes.write(JSON.stringify({ ...header, ...identity }));
  writeFileSync(file, bytes);
  return file;
}

const identityOf = (redis: RedisServer): string =>
  clusterIdentity(loadConfig({ env: { REDIS_URL: redis.url }, workingDirectory: '/' }).config);

const aged = (file: string, days: number): string => {
  const then = Date.now() / 1000 - days * 86_400;
  utimesSync(file, then, then);
  return file;
};

describe('the folder of counter files', () => {
  afterEach(endProcesses);

  const refused: Record<string, readonly [prepare: () => string, reason: string]> = {
    'that cannot be made': [() => '/proc/none', 'ENOENT'],
    'below a file': [
      () => {
        const file = join(temporaryFolder(), 'file');
        writeFileSync(file, '');
        return join(file, 'below');
      },
      'ENOTDIR',
    ],
    'that is a file': [
      () => {
        const file = join(temporaryFolder(), 'file');
        writeFileSync(file, '');
        return file;
      },
      'it is no folder',
    ],
    'where others may write': [
      () => {
        const folder = temporaryFolder();
        chmodSync(folder, 0o777);
        return folder;
      },
      'others may write there (mode 777)',
    ],
  };
  if (process.getuid?.() === 0) {
    refused['of another user'] = [
      () => {
        const folder = temporaryFolder();
        chownSync(folder, 1234, 1234);
        return folder;
      },
      'it belongs to user 1234',
    ];
    refused['behind a link of another user'] = [
      () => {
        const [folder, parent] = [temporaryFolder(), temporaryFolder()];
        symlinkSync(folder, join(parent, 'link'));
        spawnSync('chown', ['-h', '1234', join(parent, 'link')]);
        return join(parent, 'link');
      },
      'it belongs to user 1234',
    ];
  }
  for (const [what, [prepare, reason]] of Object.entries(refused)) {
    it(`(${what}) is refused at the start with what would mend it, before there is a worker`, async () => {
      const folder = prepare();
      const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', SLAB_FOLDER: folder } });
      expect(await server.ended()).to.deep.equal({ code: 2, signal: null });
      expect(server.output).to.include(`counters cannot be kept in ${folder}: `).and.to.include(reason);
      expect(server.output).to.include('metrics.slabFolder (SLAB_FOLDER)');
    });
  }

  it('may be none: then nothing is written, and the server serves', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', SLAB_FOLDER: 'none' } });
    await ask(server, 3);
    await server.metricsWhen('three requests', (metrics) => answered(metrics) === 3);
    server.signal('SIGTERM');
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    expect(existsSync('none')).to.equal(false);
  });

  it('that is full does not keep the server from serving', async function () {
    const folder = temporaryFolder();
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8k,mode=700', 'none', folder]).status !== 0) {
      skip(this, 'this user may mount nothing here');
    }
    try {
      const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', SLAB_FOLDER: folder } });
      await ask(server, 3);
      await server.metricsWhen('three requests', (metrics) => answered(metrics) === 3);
      expect(server.count('worker died')).to.equal(0);
      expect(counterFilesIn(folder)).to.deep.equal([]);
      await server.event('no room for counters that outlive this worker: a kill may lose its last counts');
      server.signal('SIGTERM');
      expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    } finally {
      spawnSync('umount', ['-l', folder]);
    }
  });

  it('(of the control socket) that cannot be made costs the control socket alone', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', TMPDIR: '/proc/none' } });
    await server.event('no control socket: signals do the same');
    await ask(server, 1);
  });
});

describe('counter files of other servers', () => {
  afterEach(endProcesses);

  it('in another container that shares the folder and the name of the host are left alone while it lives', async function () {
    const container = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
    if (spawnSync('unshare', [...container.slice(1), 'true']).status !== 0) {
      skip(this, 'this user may make no pid namespace here');
    }
    const folder = temporaryFolder();
    const start = (within: readonly string[]): TestServer => {
      const env = { MODEL: 'dummy', WORKERS: '2', NODE_NAME: 'same', SLAB_FOLDER: folder };
      return new TestServer({ env, within } satisfies ServerOptions);
    };
    // A is a later process of its container: in B's, nothing has its pid.
    const a = start([...container, 'sh', '-c', 'for i in 1 2 3 4 5 6 7 8; do /bin/true; done; "$@" & wait', 'sh']);
    await ask(a, 100);
    await a.metricsWhen('a hundred requests', (metrics) => answered(metrics) === 100);
    const files = readdirSync(folder);
    expect(counterFilesIn(folder)).to.have.lengthOf(2);
    const b = start(container);
    await ask(b, 1);
    await b.metricsWhen('its own request alone', (metrics) => answered(metrics) === 1);
    expect(readdirSync(folder)).to.include.members(files);

    const died = a.event('worker died');
    process.kill(descendants(a.pid).find((pid) => commandOf(pid).includes('worker/main.js')) as number, 'SIGKILL');
    await died;
    await until('a new worker', () => a.count('worker replaced') === 1);
    await ask(a, 50);
    const { total_requests } = await a.metricsWhen('all of them', (metrics) => answered(metrics) >= 150);
    expect(total_requests).to.equal(150);
    // When A's whole container is killed, none of its files stay.
    a.signal('SIGKILL');
    await a.ended();
    await until('only what is of B', () => counterFilesIn(folder).length === 2, { timeoutMs: 10_000 });
  });

  it('whose pids others have now are taken care of, and those others live on', async () => {
    const folder = temporaryFolder();
    const other = spawn('sleep', ['600']);
    const pid = other.pid as number;
    leave(folder, {
      node: 'same',
      identity: { pid, primaryPid: pid, identity: { pid, startTime: '1', pidNamespace: '', bootId: '' } },
    });
    leave(folder, { node: 'another', identity: { pid: 1 } });
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', NODE_NAME: 'same', SLAB_FOLDER: folder } });
    await server.event('ready');
    await until('only what is of the server', () => counterFilesIn(folder).length === 1);
    expect(isRunning(pid)).to.equal(true);
    other.kill('SIGKILL');
  });

  it('whose worker hangs: it is killed only if it is that worker beyond doubt', async () => {
    const folder = temporaryFolder();
    const env = { MODEL: 'dummy', WORKERS: '1', NODE_NAME: 'same', SLAB_FOLDER: folder };
    const first = new TestServer({ env });
    await first.event('ready');
    const [worker = 0] = workersOf(first);
    process.kill(worker, 'SIGSTOP');
    // The file now names another process: whatever runs under its pid must not be touched.
    const file = join(folder, counterFilesIn(folder)[0] as string);
    const own = readFileSync(file);
    const doubtful = Buffer.from(own);
    const header = JSON.parse(own.toString('utf8', 0, own.indexOf(0)));
    doubtful.fill(0, 0, 4096);
    doubtful.write(JSON.stringify({ ...header, identity: { ...header.identity, startTime: '1' } }));
    writeFileSync(file, doubtful);
    first.signal('SIGKILL');
    const second = new TestServer({ env });
    await second.event('ready');
    await until('several looks at it', () => second.child.pid !== undefined && uptimeOf(second.pid) > 3);
    expect(isRunning(worker)).to.equal(true);
    expect(existsSync(file)).to.equal(true);
    writeFileSync(file, own);
    await until('its end', () => !isRunning(worker));
    await until('the end of its counter file', () => !existsSync(file));
  });

  it('whose primary lives is left alone, though somebody has removed the locks of that', async () => {
    const folder = temporaryFolder();
    const env = { MODEL: 'dummy', WORKERS: '1', NODE_NAME: 'same', SLAB_FOLDER: folder };
    const first = new TestServer({ env });
    await first.event('ready');
    const workers = workersOf(first);
    const isOfPrimary = (name: string): boolean => /^[^.]*\.lock$/.test(name) && !/-\d+-\d+\.lock$/.test(name);
    const locks = readdirSync(folder).filter(isOfPrimary);
    expect(locks).to.have.lengthOf(1);
    for (const lock of locks) rmSync(join(folder, lock));
    const second = new TestServer({ env });
    await second.event('ready');
    await until('several looks at them', () => uptimeOf(second.pid) > 3);
    expect(workers.filter(isRunning)).to.deep.equal(workers);
  });

  it('do not pile up: what nobody will ask for is removed, and nothing that somebody may', async () => {
    const folder = temporaryFolder();
    const gone = [
      leave(folder, { node: 'container-1' }),
      leave(folder, { node: 'container-2' }),
      aged(leave(folder, { cluster: 'redis://elsewhere mltcp:default' }), 8),
      join(folder, 'old-1-1.slab'),
      join(folder, 'torn-1-1.lock.new'),
      join(folder, 'old-abcdef.lock'),
      join(folder, 'old-abcdef-1-1.lock'),
    ];
    const kept = [
      leave(folder, { cluster: 'redis://elsewhere mltcp:default' }),
      join(folder, 'new-1-1.slab'),
      join(folder, 'notes.txt'),
    ];
    for (const file of [...gone, ...kept]) if (!existsSync(file)) writeFileSync(file, 'of another version');
    aged(join(folder, 'old-1-1.slab'), 8);
    aged(join(folder, 'torn-1-1.lock.new'), 1);
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '1', NODE_NAME: 'n', SLAB_FOLDER: folder } });
    await server.event('ready');
    await until('all of them gone', () => gone.every((file) => !existsSync(file)));
    await server.event('counters of a server that never came back are removed: nobody of its cluster is here');
    expect(kept.every((file) => existsSync(file))).to.equal(true);
    server.signal('SIGTERM');
    await server.ended();
    expect(readdirSync(folder).map((name) => join(folder, name))).to.have.members(kept);
  });

  it('of the same cluster are published exactly once, by whoever comes, after a while those of other nodes too', async () => {
    const folder = temporaryFolder();
    const redis = await RedisServer.start();
    const cluster = identityOf(redis);
    leave(folder, { cluster, node: 'n', answered: 1000 });
    leave(folder, { cluster, node: 'container-7', answered: 200 });
    // A process that was killed had taken it over to publish it.
    const claimed = leave(folder, { cluster, node: 'n', answered: 30 });
    spawnSync('mv', [claimed, claimed.replace('.slab', '.dead1-abcdef.slab')]);
    const env = { REDIS_URL: redis.url, SLAB_FOLDER: folder };
    const aggregator = await TestAggregator.start(env);
    const args = ['--set', 'metrics.takeOverSeconds=0.5'];
    const successors = [1, 2].map(() => startNode({ ...env, NODE_NAME: 'n', WORKERS: '1' }, { args }));
    for (const successor of successors) await successor.event('ready');
    await aggregator.when('all that was counted', (metrics) => answered(metrics) === 1230);
    await until('no counter file but of the living', () => counterFilesIn(folder).length === 2, { timeoutMs: 10_000 });
    const published = successors.map((server) =>
      server.count('counters of a worker whose server was killed are published'),
    );
    expect(published.reduce((sum, n) => sum + n)).to.equal(3);
    expect(answered(await aggregator.metrics())).to.equal(1230);
    for (const server of successors) {
      server.signal('SIGTERM');
      await server.ended();
    }
    // The ledger of their node, which the server that ended last took over from the other.
    expect(readdirSync(folder).map((name) => name.replace(/^[^.]+/, ''))).to.deep.equal(['.ledger']);
  });
});

function procFile(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return '';
  }
}

const commandOf = (pid: number): string => procFile(`${pid}/cmdline`);

function descendants(pid: number): readonly number[] {
  const children = (procFile(`${pid}/task/${pid}/children`).match(/\d+/g) ?? []).map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function uptimeOf(pid: number): number {
  const startTicks = Number(procFile(`${pid}/stat`).split(') ')[1]?.split(' ')[19]);
  return Number(procFile('uptime').split(' ')[0]) - startTicks / 100;
}
