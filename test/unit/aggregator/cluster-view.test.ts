import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { metricFamilies } from '#src/aggregator/prometheus.js';
import { contentTypes, formatText } from '#src/metrics/exposition.js';
import { bucketMiddleMs } from '#src/metrics/histogram.js';
import { noCounts, noModelCounts } from '#src/metrics/merge.js';
import type { WorkerRecord } from '#src/metrics/snapshot.js';
import { countsOf, nodeRecord, snapshotOf, workerRecord } from '../../support/records.js';

function counted(received: number, fields: Partial<WorkerRecord> = {}): WorkerRecord {
  const model = { ...noModelCounts(), received, answered: received, latency: [300, received] };
  return workerRecord({ counts: { ...noCounts(), models: { digits: model } }, sequence: received, ...fields });
}

describe('the view of the cluster', () => {
  it('has the ten keys of the original server', () => {
    const { metrics } = new ClusterView(250).update(snapshotOf([]), 0);
    expect(metrics).to.include.all.keys(
      'initial_time',
      'uptime',
      'connections',
      'total_requests',
      'requests_per_second',
      'errors',
      'error_rate',
      'inference_errors',
      'inference_error_rate',
      'queue_overload',
    );
  });

  it('tells the rate of the last five seconds, not of the whole life', () => {
    const view = new ClusterView(250);
    let metrics = view.update(snapshotOf([nodeRecord(), counted(0)]), 0).metrics;
    for (let second = 1; second <= 10; second++)
      metrics = view.update(
        snapshotOf([nodeRecord({ uptimeMs: second * 1000 }), counted(1000 * second)]),
        second * 1000,
      ).metrics;
    expect(metrics.requests_per_second).to.be.closeTo(1000, 1);
    for (let second = 11; second <= 20; second++)
      metrics = view.update(
        snapshotOf([nodeRecord({ uptimeMs: second * 1000 }), counted(10_000)]),
        second * 1000,
      ).metrics;
    expect(metrics.requests_per_second).to.equal(0);
    expect(metrics.requests_per_second_lifetime).to.equal(500);
    expect(metrics.workers[0]?.rps).to.equal(0);
  });

  it('tells for a minute what was lost with a worker, and not what had been lost before it looked', () => {
    const view = new ClusterView(250);
    const lost = (requests: number, connections: number) =>
      nodeRecord({ departed: { ...countsOf({ lost: requests, abandoned: requests }), closedByDeath: connections } });
    const poll = (node: ReturnType<typeof nodeRecord> | null, at: number) =>
      view.update(snapshotOf(node === null ? [] : [node], 0, at), at).metrics;
    expect(poll(lost(5, 1), 0)).to.include({ requests_lost: 5, requests_lost_60s: 0, connections_lost_60s: 0 });
    expect(poll(lost(165, 4), 1000)).to.include({
      requests_lost: 165,
      requests_lost_60s: 160,
      connections_lost_60s: 3,
    });
    // A node that was out of sight adds nothing new when it is back.
    poll(null, 2000);
    const later = poll(lost(165, 4), 3000);
    expect(later).to.include({ requests_lost_60s: 160, connections_lost: 4 });
    expect(later.events.map(({ text }) => text)).to.include('lost with a worker of a: 160 requests and 3 connections');
    expect(poll(lost(165, 4), 61_001)).to.include({
      requests_lost: 165,
      requests_lost_60s: 0,
      connections_lost_60s: 0,
    });
  });

  it('shows what models take and give, as the nodes that are up say', () => {
    const nodes = ['a', 'b', 'c'].map((node) => nodeRecord({ node, run: node, signatures: { m: 'float32[4]' } }));
    const old = nodeRecord({ node: 'd', run: 'd', departed: countsOf({ received: 1 }) });
    const { models } = new ClusterView(250).update(snapshotOf([...nodes, old]), 0).metrics;
    expect(models.map(({ name, signatures }) => [name, signatures])).to.deep.equal([['m', ['float32[4]']]]);
  });

  it('calls a worker lost and a node stale, then down, when they stop publishing, and keeps their counts', () => {
    const view = new ClusterView(250);
    const records = [nodeRecord(), counted(7)];
    const states = [0, 999, 1000, 4999, 5000, 60_000].map((ageMs) => {
      const { metrics } = view.update(snapshotOf(records, ageMs), ageMs);
      expect(metrics.total_requests).to.equal(7);
      return [metrics.nodes[0]?.state, metrics.workers[0]?.state];
    });
    expect(states).to.deep.equal([
      ['up', 'ready'],
      ['up', 'ready'],
      ['stale', 'lost'],
      ['stale', 'lost'],
      ['down', 'lost'],
      ['down', undefined],
    ]);
  });

  it('lists a node that stopped in order for a minute, and of a node that was restarted the newest run', () => {
    const view = new ClusterView(250);
    const stopped = snapshotOf([nodeRecord({ isStopping: true })], 59_999);
    expect(view.update(stopped, 0).metrics.nodes.map(({ state }) => state)).to.deep.equal(['stopped']);
    expect(view.update(snapshotOf([nodeRecord({ isStopping: true })], 60_000), 0).metrics.nodes).to.deep.equal([]);
    const both = {
      records: [
        { record: nodeRecord({ run: 'old', pid: 1 }), ageMs: 4000 },
        { record: nodeRecord({ run: 'new', pid: 2 }), ageMs: 10 },
      ],
      now: 0,
    };
    expect(view.update(both, 0).metrics.nodes.map(({ pid }) => pid)).to.deep.equal([2]);
  });

  it('tells the quantiles of the last ten seconds, of the last minute and of all time', () => {
    const view = new ClusterView(250);
    const at = (second: number, latency: readonly number[]) => {
      const model = { ...noModelCounts(), latency };
      const record = workerRecord({ counts: { ...noCounts(), models: { digits: model } }, sequence: second });
      return view.update(snapshotOf([record]), second * 1000).metrics;
    };
    // 100 slow requests at first, then ten quicker ones, then one that is quicker still: bucket numbers stand for
    // times.
    at(0, []);
    at(1, [500, 100]);
    for (let second = 2; second <= 50; second++) at(second, [500, 100]);
    at(51, [200, 10, 500, 100]);
    for (let second = 52; second <= 100; second++) at(second, [200, 10, 500, 100]);
    const metrics = at(101, [100, 1, 200, 10, 500, 100]);
    for (const { latency_ms, latency_ms_60s, latency_ms_10s } of [metrics, ...metrics.models, ...metrics.workers]) {
      expect([latency_ms.count, latency_ms_60s.count, latency_ms_10s.count]).to.deep.equal([111, 11, 1]);
      expect(latency_ms.p50).to.equal(bucketMiddleMs(500));
      expect(latency_ms_60s.p50).to.equal(bucketMiddleMs(200));
      expect(latency_ms_10s.p99).to.equal(bucketMiddleMs(100));
    }
  });

  it('shows an imbalance when a request has neither an outcome nor a place in flight', () => {
    const model = { ...noModelCounts(), received: 10, answered: 5, failed: 1, refusedBadInput: 1, abandoned: 1 };
    const record = workerRecord({ counts: { ...noCounts(), models: { digits: model } } });
    const poll = (inFlight: number) =>
      new ClusterView(250).update(snapshotOf([{ ...record, gauges: { ...record.gauges, inFlight } }]), 0).metrics;
    expect(poll(2).audit_imbalance).to.equal(0);
    expect(poll(0).audit_imbalance).to.equal(2);
    expect(poll(2)).to.include({ errors: 2, error_rate: 0.2, inference_errors: 1, inference_error_rate: 0.1 });
  });
});

describe('the text for Prometheus', () => {
  const state = new ClusterView(250).update(snapshotOf([nodeRecord({ node: 'quo"te\\d' }), counted(3)]), 0);

  it('has cumulative buckets that end in the count', () => {
    const lines = formatText(metricFamilies(state, '1.2.3'), 'prometheus').split('\n');
    const buckets = lines
      .filter((line) => line.startsWith('mltcp_request_duration_seconds_bucket'))
      .map((line) => Number(line.split(' ')[1]));
    expect(buckets).to.deep.equal([...buckets].sort((a, b) => a - b));
    expect(buckets.at(-1)).to.equal(3);
    expect(lines).to.include('mltcp_request_duration_seconds_count{model="digits"} 3');
  });

  it('escapes label values', () => {
    expect(formatText(metricFamilies(state, '1'), 'prometheus')).to.include('mltcp_node_up{node="quo\\"te\\\\d"} 1');
  });

  it('is OpenMetrics when that is asked for: families of counters without _total, and an end', () => {
    const text = formatText(metricFamilies(state, '1'), 'openmetrics');
    expect(text).to.include('# TYPE mltcp_requests_received counter\nmltcp_requests_received_total{');
    expect(text.endsWith('# EOF\n')).to.equal(true);
    expect(contentTypes.openmetrics).to.include('application/openmetrics-text');
  });
});
