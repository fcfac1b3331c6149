// The cluster that this server counts for, and the workers of this node.

import { type SettingsOf, setting } from '../setting.js';

export const cluster = {
  name: setting({
    doc: 'Servers with the same name (and Redis) are one cluster and share totals.',
    format: 'label',
    default: 'default',
    env: 'CLUSTER_NAME',
  }),
  node: setting({
    doc: 'Name of this machine in metrics and logs; empty means its host name.',
    format: 'labelOrEmpty',
    default: '',
    env: 'NODE_NAME',
  }),
  workers: setting({
    doc: "Worker processes; 'auto' means one for each core; where a cgroup allows less processor time, one for each whole core of that.",
    format: 'workers',
    default: 'auto',
    env: 'WORKERS',
  }),
  maxBootFailures: setting({
    doc: 'Times in a row that a worker may die before it is ready, until the server gives up.',
    format: 'count',
    default: 5,
  }),
  bootTimeoutSeconds: setting({
    doc: 'Time that a worker has to be ready; then it is killed, and counts as one that could not start. Longer than the slowest model takes to load and to warm up.',
    format: 'positiveSeconds',
    default: 120,
  }),
  hangTimeoutMs: setting({
    doc: 'A worker whose event loop stands still for longer is killed and replaced. A run in a thread that takes longer fails its requests; a fresh thread serves the next ones, and the old one is left to end. Longer than the longest run of a model, and than a pause of garbage collection.',
    format: 'hangTimeout',
    default: 30_000,
  }),
  maxHungThreads: setting({
    doc: 'Threads of one worker that may hang at once: each keeps a core busy and a copy of its model in memory, and nothing but the end of the process can end it. With one more the worker is replaced: its connections move to a new one, and it is killed.',
    format: 'count',
    default: 4,
  }),
  moveConnections: setting({
    doc: 'Whether live connections go on in another worker at reloads and at scaling, and are spread evenly. When not, or where Node cannot do it, they are drained and their clients connect again.',
    format: Boolean,
    default: true,
  }),
};

export type ClusterSettings = SettingsOf<typeof cluster>;
