// How often metrics are published, and where counts that must outlive a process are kept.

import { type SettingsOf, setting } from '../setting.js';

export const metrics = {
  publishIntervalMs: setting({
    doc: 'How often each worker publishes its counters. Shorter is fresher and costs a little more.',
    format: 'interval',
    default: 250,
  }),
  keptRejections: setting({
    doc: 'How many of the last refused or failed requests and connections each worker tells of, at /api/rejections, on the page and as debug lines: with the address of the client, which is personal data, and no payload. 20: a screen of them; a record has up to 500 bytes more for each, for ten seconds. 0: none.',
    format: 'kept',
    default: 20,
  }),
  nodeRetentionSeconds: setting({
    doc: 'A node that an aggregator has not heard of for so long, with Redis there all the time, is folded into one record: totals stay, its own line goes. With Redis only.',
    format: 'positiveSeconds',
    default: 3600,
  }),
  slabFolder: setting({
    doc: 'Where each worker keeps its counts in a file that outlives it (25 KB a model): a folder of this user, in which others may not write. Empty: one in /dev/shm, or else in the temporary folder; none: no files, and a kill may lose the last counts of a worker.',
    format: 'textOrEmpty',
    default: '',
    env: 'SLAB_FOLDER',
  }),
  ledgerFolder: setting({
    doc: 'Where each node keeps what its earlier runs counted (some 5 KB). Empty: with Redis in metrics.slabFolder, without it nowhere. On a disk of the machine it outlives a reboot.',
    format: 'textOrEmpty',
    default: '',
    env: 'LEDGER_FOLDER',
  }),
  takeOverSeconds: setting({
    doc: 'Time after which a server publishes what another node of its cluster left in the same folder (containers that share it) when it was killed; the node itself does so at once when it starts. At most half of metrics.nodeRetentionSeconds, after which it would come too late.',
    format: 'positiveSeconds',
    default: 60,
  }),
  leftoverRetentionDays: setting({
    doc: 'Days after which counts that a killed server left in the folder are removed, where no server of its cluster comes to publish them: memory must not fill up. A week: longer than an outage.',
    format: 'count',
    default: 7,
  }),
  streamIntervalMs: setting({
    doc: 'How often WS /metrics and Socket.IO send the metrics.',
    format: 'interval',
    default: 250,
  }),
};

export type MetricsSettings = SettingsOf<typeof metrics>;
