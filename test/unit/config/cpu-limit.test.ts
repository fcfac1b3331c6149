import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { cpuLimit, workersFor } from '#src/config/cpu-limit.js';
import { describeConfig } from '#src/config/describe.js';
import { loadConfig } from '#src/config/load.js';
import { temporaryFolder } from '../../support/folder.js';
import { root as checkout } from '../../support/processes.js';
import { cleanEnv } from '../../support/server.js';
import { skip } from '../../support/skip.js';

const mountsOfVersion2 = '31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n';
const mountsOfVersion1 = [
  '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
  '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct',
  '35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
  '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw',
].join('\n');

/** The files of a machine, by path. */
function machine(files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder();
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

const version2 = (group: string, limits: Readonly<Record<string, string>>, mounts = mountsOfVersion2): string =>
  machine({
    '/proc/self/mountinfo': mounts,
    '/proc/self/cgroup': `0::${group}\n`,
    ...Object.fromEntries(Object.entries(limits).map(([at, max]) => [`/sys/fs/cgroup${at}/cpu.max`, `${max}\n`])),
  });

const version1 = (group: string, quotas: Readonly<Record<string, number>>, period = 100_000): string =>
  machine({
    '/proc/self/mountinfo': mountsOfVersion1,
    '/proc/self/cgroup': `9:name=systemd:/x\n4:memory:/m\n3:cpu,cpuacct:${group}\n0::/other\n`,
    ...Object.fromEntries(
      Object.entries(quotas).flatMap(([at, quota]) => [
        [`/sys/fs/cgroup/cpu,cpuacct${at}/cpu.cfs_quota_us`, `${quota}\n`],
        [`/sys/fs/cgroup/cpu,cpuacct${at}/cpu.cfs_period_us`, `${period}\n`],
      ]),
    ),
  });

describe('the limit of processor time', () => {
  it('is the quota of the group, by version 2 of cgroups', () => {
    expect(cpuLimit(version2('/pods/a', { '/pods/a': '50000 100000' }))).to.deep.equal({
      cores: 0.5,
      file: '/sys/fs/cgroup/pods/a/cpu.max',
    });
  });

  it('is the quota of the group, by version 1 of cgroups', () => {
    expect(cpuLimit(version1('/pods/a', { '': -1, '/pods': -1, '/pods/a': 25_000 }, 50_000))).to.deep.equal({
      cores: 0.5,
      file: '/sys/fs/cgroup/cpu,cpuacct/pods/a/cpu.cfs_quota_us',
    });
  });

  it('is the least along the whole path, whichever group has it', () => {
    const cores = fc.integer({ min: 1, max: 64_000 }).map((thousandths) => thousandths / 1000);
    const quotas = fc.array(fc.option(cores), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(quotas, fc.boolean(), (limits, isVersion2) => {
        const at = (i: number): string => '/g'.repeat(i + 1);
        const least = Math.min(...limits.map((limit) => limit ?? Number.POSITIVE_INFINITY));
        const own = at(limits.length - 1);
        const folder = isVersion2
          ? version2(
              own,
              Object.fromEntries(limits.map((n, i) => [at(i), n === null ? 'max 100000' : `${n * 1e5} 100000`])),
            )
          : version1(own, Object.fromEntries(limits.map((n, i) => [at(i), n === null ? -1 : n * 1e5])));
        const found = cpuLimit(folder)?.cores ?? Number.POSITIVE_INFINITY;
        if (Number.isFinite(least)) expect(found).to.be.closeTo(least, 1e-9);
        else expect(found).to.equal(least);
      }),
      { numRuns: 40 },
    );
  });

  it('is found in a container, whose mount shows its own group at the top', () => {
    const mounts = '31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n';
    expect(cpuLimit(version2('/docker/abc', { '': '150000 100000' }, mounts))?.cores).to.equal(1.5);
    expect(
      cpuLimit(version2('/docker/abc/inner', { '': '150000 100000', '/inner': '50000 100000' }, mounts))?.cores,
    ).to.equal(0.5);
    // In a cgroup namespace, a process sees itself at the root, and one from outside even above that.
    expect(cpuLimit(version2('/', { '': '150000 100000' }))?.cores).to.equal(1.5);
    expect(cpuLimit(version2('/../../other', { '': '150000 100000' }, mounts))?.cores).to.equal(1.5);
  });

  it('is none where nothing limits, and where there are no cgroups or they say nonsense', () => {
    expect(cpuLimit(version2('/a', { '/a': 'max 100000' }))).to.equal(null);
    expect(cpuLimit(version1('/a', { '': -1, '/a': -1 }))).to.equal(null);
    expect(cpuLimit(machine({}))).to.equal(null);
    for (const nonsense of ['', 'x', '0 0', '-5 100000', '100000', 'NaN NaN'])
      expect(cpuLimit(version2('/a', { '/a': nonsense }))).to.equal(null);
  });

  it('makes workers for whole cores, at least one, and never more than there are cores', () => {
    const workers = (cores: number) => workersFor({ cores, file: '' }, 8);
    expect([0.1, 0.5, 1, 1.5, 1.99, 2, 7.5, 64].map(workers)).to.deep.equal([1, 1, 1, 1, 1, 2, 7, 8]);
    expect(workersFor(null, 8)).to.equal(8);
  });

  it('decides the workers that auto means, not those that are set, and `config` says so', () => {
    const load = (env: Record<string, string>) =>
      loadConfig({ env, workingDirectory: temporaryFolder(), cpuLimit: { cores: 0.5, file: '/x/cpu.max' } });
    const auto = load({});
    expect(auto.config.cluster.workers).to.equal(1);
    expect(describeConfig(auto).find(({ key }) => key === 'cluster.workers')).to.deep.equal({
      key: 'cluster.workers',
      value: 1,
      source: `${loadConfig({ env: {}, workingDirectory: '/', cpuLimit: null }).sources.get('cluster.workers')}, auto: processor time of 0.5 cores (/x/cpu.max)`,
    });
    expect(load({ WORKERS: '7' }).config.cluster.workers).to.equal(7);
    expect(load({ WORKERS: '7' }).sources.get('cluster.workers')).to.equal('environment WORKERS');
  });

  it('is kept by a real process in a real group', async function () {
    const group = makeGroup(0.5);
    if (group === null) {
      skip(this, 'this user may make no cgroup with a limit of processor time here');
    }
    try {
      const command = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"';
      const config = [process.execPath, `${checkout}bundle/cli.js`, 'config', '--json'];
      const child = spawn('sh', ['-c', command, 'sh', group, ...config], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: cleanEnv(),
      });
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      await once(child, 'close');
      const settings = JSON.parse(output) as readonly { key: string; value: unknown; source: string }[];
      const workers = settings.find(({ key }) => key === 'cluster.workers');
      expect(workers?.value).to.equal(1);
      expect(workers?.source).to.match(/auto: processor time of 0\.5 cores \(\/.*cpu\.(max|cfs_quota_us)\)$/);
    } finally {
      rmdirSync(group);
    }
  });
});

/** A group with this limit below that of this process; null where we may not make one. */
function makeGroup(cores: number): string | null {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const mount =
    mounts.find((line) => / - cgroup \S+ \S*\bcpu\b/.test(line)) ?? mounts.find((line) => line.includes(' - cgroup2 '));
  if (mount === undefined) return null;
  const mountPoint = mount.split(' ')[4] as string;
  const type = mount.includes(' - cgroup2 ') ? 'cgroup2' : 'cgroup';
  const group = join(mountPoint, `ml-tcp-server-test-${process.pid}`);
  try {
    mkdirSync(group);
  } catch {
    return null;
  }
  try {
    if (type === 'cgroup2') writeFileSync(join(group, 'cpu.max'), `${cores * 1e5} 100000`);
    else writeFileSync(join(group, 'cpu.cfs_quota_us'), String(cores * 1e5));
    return group;
  } catch {
    rmdirSync(group);
    return null;
  }
}
