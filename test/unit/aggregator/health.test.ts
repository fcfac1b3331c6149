import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { troublesOf } from '#src/aggregator/health.js';
import type { Metrics, NodeMetrics, WorkerMetrics } from '#src/aggregator/metrics.js';
import { formatLine, formatScreen } from '#src/tools/top/render.js';
import { nodeRecord, snapshotOf, workerRecord } from '../../support/records.js';

const well: Metrics = {
  ...new ClusterView(250).update(snapshotOf([nodeRecord(), workerRecord()]), 0).metrics,
  requests_per_second: 1000,
  age_ms: 0,
  stale: false,
};
const [node] = well.nodes as readonly [NodeMetrics];
const [worker] = well.workers as readonly [WorkerMetrics];

describe('health', () => {
  it('is good when nothing is wrong', () => {
    expect(troublesOf(well)).to.deep.equal([]);
    expect(formatScreen({ metrics: well, gone: null, ageMs: 0 }, 200, 50)[0]).to.match(/live.*healthy$/);
    expect(formatLine(well)).to.not.include('UNHEALTHY');
  });

  for (const [what, fields, expected] of [
    [
      'a node without heartbeat',
      {
        nodes: [node, { ...node, node: 'b', state: 'stale', age_ms: 3000 }, { ...node, state: 'down', age_ms: 75_000 }],
      },
      ['a is down: no heartbeat for 1 min 15 s', 'b is stale: no heartbeat for 3 s'],
    ],
    [
      'many of them',
      { nodes: [1, 2, 3, 4, 5].map((i) => ({ ...node, node: `n${i}`, state: 'down', age_ms: 9000 - i })) },
      [...['n1', 'n2', 'n3'].map((name) => `${name} is down: no heartbeat for 8 s`), 'no heartbeat of 2 more'],
    ],
    ['no worker', { workers: [{ ...worker, state: 'lost' }] }, ['no worker is ready']],
    ['too few workers', { nodes: [{ ...node, workers_wanted: 3 }] }, ['2 workers are missing']],
    [
      'requests that a worker took with it',
      { requests_lost_60s: 160, connections_lost_60s: 1 },
      ['160 requests and 1 connection lost in the last minute with a worker that died'],
    ],
    [
      'connections alone',
      { connections_lost_60s: 3 },
      ['3 connections lost in the last minute with a worker that died'],
    ],
    ['errors', { errors_per_second: 30 }, ['3.0 % of the requests fail']],
    [
      'clients that leave',
      { abandoned_per_second: 500 },
      ['50 % of the requests are abandoned: their connections end before the reply'],
    ],
    ['an audit that is off', { audit_imbalance: 2, requests_per_second: 0 }, ['the audit is off by 2']],
  ] as const) {
    it(`tells of ${what}, on the page and at the terminal`, () => {
      const metrics = { ...well, ...fields } as unknown as Metrics;
      expect(troublesOf(metrics)).to.deep.equal(expected);
      const screen = formatScreen({ metrics, gone: null, ageMs: 0 }, 500, 50).join('\n');
      expect(screen)
        .to.include(`✖ unhealthy: ${expected.join('; ')}`)
        .and.not.to.include('healthy\n');
      expect(formatLine(metrics)).to.include(`UNHEALTHY: ${expected.join('; ')}`);
    });
  }

  it('is not judged by numbers that are old', () => {
    const metrics = { ...well, stale: true, requests_lost_60s: 1 };
    expect(formatScreen({ metrics, gone: null, ageMs: 9000 }, 500, 50).join('\n')).to.not.include('unhealthy');
  });
});
