import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { metricFamilies } from '#src/aggregator/prometheus.js';
import { contentTypes, formatText } from '#src/metrics/exposition.js';
import { noCounts, noModelCounts } from '#src/metrics/merge.js';
import type { WorkerRecord } from '#src/metrics/snapshot.js';
import { nodeRecord, workerRecord } from '../../support/records.js';

function counted(received: number, fields: Partial<WorkerRecord> = {}): WorkerRecord {
  const model = { ...noModelCounts(), received, answered: received, latency: [[300, received]] as const };
  return workerRecord({ counts: { ...noCounts(), models: { digits: model } }, sequence: received, ...fields });
}

describe('the view of the cluster', () => {
  it('has the ten keys of the original server', () => {
    const { metrics } = new ClusterView(250).look([], 0, 0);
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
    let metrics = view.look([nodeRecord(), counted(0)], 0, 0).metrics;
    for (let second = 1; second <= 10; second++)
      metrics = view.look([nodeRecord(), counted(1000 * second)], second * 1000, second * 1000).metrics;
    expect(metrics.requests_per_second).to.be.closeTo(1000, 1);
    for (let second = 11; second <= 20; second++)
      metrics = view.look([nodeRecord(), counted(10_000)], second * 1000, second * 1000).metrics;
    expect(metrics.requests_per_second).to.equal(0);
    expect(metrics.requests_per_second_lifetime).to.equal(500);
    expect(metrics.workers[0]?.rps).to.equal(0);
  });

  it('calls a worker lost and a node stale, then down, when they stop publishing, and keeps their counts', () => {
    const view = new ClusterView(250);
    const records = [nodeRecord(), counted(7)];
    const states = [0, 999, 1000, 4999, 5000, 60_000].map((now) => {
      const { metrics } = view.look(records, now, now);
      expect(metrics.total_requests).to.equal(7);
      return [metrics.nodes[0]?.state, metrics.workers[0]?.state];
    });
    expect(states).to.deep.equal([
      ['up', 'ready'],
      ['up', 'ready'],
      ['stale', 'lost'],
      ['stale', 'lost'],
      ['down', 'lost'],
      [undefined, undefined],
    ]);
  });

  it('judges age by its own clock: skew between machines does no harm', () => {
    const view = new ClusterView(250);
    const yesterday = nodeRecord({ startedAt: -86_400_000 });
    const tomorrow = nodeRecord({ node: 'b', startedAt: 86_400_000 });
    expect(view.look([yesterday, tomorrow], 0, 0).metrics.nodes.map(({ state }) => state)).to.deep.equal(['up', 'up']);
  });

  it('shows an imbalance when a request has neither an outcome nor a place in flight', () => {
    const model = { ...noModelCounts(), received: 10, answered: 5, failed: 1, refusedBadInput: 1, abandoned: 1 };
    const record = workerRecord({ counts: { ...noCounts(), models: { digits: model } } });
    const look = (inFlight: number) =>
      new ClusterView(250).look([{ ...record, gauges: { ...record.gauges, inFlight } }], 0, 0).metrics;
    expect(look(2).audit_imbalance).to.equal(0);
    expect(look(0).audit_imbalance).to.equal(2);
    expect(look(2)).to.include({ errors: 2, error_rate: 0.2, inference_errors: 1, inference_error_rate: 0.1 });
  });
});

describe('the text for Prometheus', () => {
  const state = new ClusterView(250).look([nodeRecord({ node: 'quo"te\\d' }), counted(3)], 0, 0);

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
