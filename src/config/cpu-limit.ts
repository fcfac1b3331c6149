// How much processor time the cgroups of this process allow it: containers, Kubernetes and systemd limit services this
// way. Node's availableParallelism() knows the cores that the process may run on, but not this limit.
//
// A limit applies to a group and all groups in it, so the lowest along the whole path counts. Version 2 of cgroups has
// it in cpu.max ("50000 100000": 50 ms in each 100 ms, half a core), version 1 in cpu.cfs_quota_us and
// cpu.cfs_period_us of the hierarchy that has the controller cpu. Both may be mounted at once.
// See https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/scheduler/sched-bwc.html

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';

export interface CpuLimit {
  /** Processor time in cores, such as 0.5. */
  readonly cores: number;
  /** The file that sets the limit. */
  readonly file: string;
}

interface Hierarchy {
  /** 2: cpu.max; 1: cpu.cfs_quota_us. */
  readonly version: 1 | 2;
  /** Where it is mounted, and which of its groups is the root of the mount. */
  readonly mountPoint: string;
  readonly mountedGroup: string;
}

/**
 * The lowest limit of all groups that this process is in; null when there is none, or no cgroups.
 * @param root the folder in which /proc and the mounts of cgroups are looked up
 */
export function cpuLimit(root = '/'): CpuLimit | null {
  const limits = hierarchies(read(root, '/proc/self/mountinfo')).flatMap((hierarchy) => {
    const group = groupIn(hierarchy.version, read(root, '/proc/self/cgroup'));
    return group === null ? [] : limitsAlong(root, hierarchy, group);
  });
  return limits.reduce<CpuLimit | null>((least, limit) => (least && least.cores <= limit.cores ? least : limit), null);
}

/**
 * How many workers suit a machine with this limit: one for each whole core. Rounded down, since a group that has used
 * up its time stops until the next period, with all its processes: the remaining fraction of a core is for the primary,
 * the aggregator and the threads of the runtime.
 */
export function workersFor(limit: CpuLimit | null, cores = availableParallelism()): number {
  return limit === null ? cores : Math.max(1, Math.min(cores, Math.floor(limit.cores)));
}

/** The limit as text for people. */
export function describeCpuLimit({ cores, file }: CpuLimit): string {
  return `processor time of ${Number(cores.toFixed(2))} cores (${file})`;
}

function read(root: string, path: string): string {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch {
    return '';
  }
}

/** Mounts of cgroups that may limit processor time; mountinfo is described in proc(5). */
function hierarchies(mountInfo: string): readonly Hierarchy[] {
  return mountInfo.split('\n').flatMap((line): readonly Hierarchy[] => {
    const [mount = '', fileSystem = ''] = line.split(' - ');
    const [, , , mountedGroup = '', mountPoint = ''] = mount.split(' ').map(unescaped);
    const [type, , options = ''] = fileSystem.split(' ');
    if (type === 'cgroup2') return [{ version: 2, mountPoint, mountedGroup }];
    return type === 'cgroup' && options.split(',').includes('cpu') ? [{ version: 1, mountPoint, mountedGroup }] : [];
  });
}

/** Decodes spaces and the like, which are written as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The group of this process. A line is ID:CONTROLLERS:GROUP; for version 2 ID is 0 and CONTROLLERS is empty. */
function groupIn(version: 1 | 2, groups: string): string | null {
  for (const line of groups.split('\n')) {
    const [, id, controllers = '', group = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    const isIt = version === 2 ? id === '0' && controllers === '' : controllers.split(',').includes('cpu');
    if (isIt) return group;
  }
  return null;
}

/** Limits of the group and its ancestors, as far as the mount shows them. */
function limitsAlong(root: string, { version, mountPoint, mountedGroup }: Hierarchy, group: string): CpuLimit[] {
  const below = relative(mountedGroup, group);
  // A container may see itself at the top of the mount, but its group's name as on the host.
  const isShown = below !== '..' && !below.startsWith('../');
  const limits: CpuLimit[] = [];
  for (let at = isShown ? below : ''; ; at = dirname(at)) {
    const limit = limitOf(root, join(mountPoint, at), version);
    if (limit !== null) limits.push(limit);
    if (at === '' || at === '.') return limits;
  }
}

function limitOf(root: string, folder: string, version: 1 | 2): CpuLimit | null {
  const file = join(folder, version === 2 ? 'cpu.max' : 'cpu.cfs_quota_us');
  const [quota, period] =
    version === 2
      ? read(root, file).trim().split(' ')
      : [read(root, file).trim(), read(root, join(folder, 'cpu.cfs_period_us')).trim()];
  const cores = Number(quota || Number.NaN) / Number(period || Number.NaN);
  // No limit is "max", or -1.
  return Number.isFinite(cores) && cores > 0 ? { cores, file } : null;
}
