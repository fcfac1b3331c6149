import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { metricFamilies } from '#src/aggregator/prometheus.js';
import { CounterFile, counterFilePath, readCounterFile } from '#src/metrics/counter-file.js';
import {
  type Counter,
  counterFamilies,
  counters,
  countersWith,
  metricOf,
  modelCounters,
  workerCounters,
} from '#src/metrics/counters.js';
import { formatText } from '#src/metrics/exposition.js';
import { addCounts, departed, noCounts, noModelCounts, unsettled } from '#src/metrics/merge.js';
import { Recorder } from '#src/metrics/recorder.js';
import type { WorkerCounts } from '#src/metrics/snapshot.js';
import { temporaryFolder } from '../../support/folder.js';
import { snapshotOf, workerRecord } from '../../support/records.js';

const names = Object.keys(counters) as Counter[];

describe('a row of the table of counters', () => {
  const folder = temporaryFolder();

  /**
   * Takes counts from a worker's memory through its file to its primary, and from there as a record to an aggregator.
   */
  function travelled(recorder: Recorder): WorkerCounts {
    const owner = { cluster: 'c', node: 'n', run: 'r', slot: 0, incarnation: 1 };
    new CounterFile(folder, owner, recorder).close();
    const counts = readCounterFile(counterFilePath(folder, owner))?.counts;
    return JSON.parse(JSON.stringify(addCounts(noCounts(), counts ?? noCounts()))) as WorkerCounts;
  }

  it('is all that it takes for what is counted to be shown on /metrics', () => {
    const recorder = new Recorder(['m']);
    for (const [i, name] of workerCounters.entries()) recorder.count(name, 1000 + i);
    for (const [i, name] of modelCounters.entries()) recorder.model('m').count(name, 2000 + i);
    const state = new ClusterView(250).update(snapshotOf([workerRecord({ counts: travelled(recorder) })]), 0);
    const lines = formatText(metricFamilies(state, ''), 'prometheus').split('\n');
    const shown = names.filter((name) => counters[name].family !== null);
    expect(shown.length).to.be.above(40);
    for (const name of shown) {
      const { scope, family, labels } = counters[name];
      const pairs = Object.entries({ ...(scope === 'model' ? { model: 'm' } : {}), ...labels });
      const braces = pairs.length === 0 ? '' : `{${pairs.map(([label, value]) => `${label}="${value}"`).join(',')}}`;
      const all: readonly string[] = scope === 'model' ? modelCounters : workerCounters;
      const value = (scope === 'model' ? 2000 : 1000) + all.indexOf(name);
      expect(lines.filter((line) => line.startsWith(`${family}${braces} `))).to.deep.equal([
        `${family}${braces} ${value}`,
      ]);
    }
  });

  it('is the only one of its family, or has a label that tells it from the others', () => {
    for (const family of Object.keys(counterFamilies) as (keyof typeof counterFamilies)[]) {
      const members: readonly Counter[] = countersWith({ family });
      expect(members, family).not.to.be.empty;
      expect(new Set(members.map((name) => JSON.stringify(counters[name].labels))).size).to.equal(members.length);
      expect(new Set(members.map((name) => Object.keys(counters[name].labels ?? {}).join())).size).to.equal(1);
      expect(new Set(members.map((name) => counters[name].scope)).size).to.equal(1);
    }
    expect([metricOf('failed'), metricOf('refusedQueueFull')]).to.deep.equal([
      'mltcp_requests_failed_total',
      'mltcp_requests_refused_total{reason="queue_full"}',
    ]);
  });

  it('for a way that a request ends settles it, so that it is not taken for lost, and no other row does', () => {
    for (const name of modelCounters) {
      const isEnd = /^mltcp_requests_(answered|failed|refused|expired|abandoned)_/.test(counters[name].family ?? '');
      expect(unsettled({ ...noModelCounts(), received: 1, [name]: 1 }), name).to.equal(isEnd ? 0 : 1);
    }
  });

  it('for a way that a connection ends settles it, but for one that no worker had', () => {
    const ends = workerCounters.filter((name) => name.startsWith('closedBy') && name !== 'closedByDeath');
    expect(ends.length).to.be.above(8);
    for (const name of ends) {
      const { closedByDeath } = departed({ ...noCounts(), connectionsAccepted: 2, [name]: 1 });
      expect(closedByDeath, name).to.equal(name === 'closedByHandoff' ? 2 : 1);
    }
  });
});
