import { expect } from 'chai';
import { EventLog, type Seen } from '#src/aggregator/events.js';
import type { ModelMetrics, NodeMetrics } from '#src/aggregator/metrics.js';

const node = (fields: Partial<NodeMetrics> = {}): NodeMetrics => ({
  node: 'a',
  pid: 1,
  version: '1',
  state: 'up',
  workers: 2,
  workers_wanted: 2,
  restarts: 0,
  reloads: 0,
  started: '',
  age_ms: 0,
  ...fields,
});
const model = (fields: Partial<ModelMetrics>): ModelMetrics =>
  ({ name: 'm', versions: ['1'], load_failures: 0, thread_crashes: 0, ...fields }) as ModelMetrics;
const nodes = (...fields: Partial<NodeMetrics>[]): Seen => ({ nodes: fields.map(node), models: [] });

/** The events after these looks, a quarter of a second apart. */
function saidAfter(...looks: readonly Seen[]): readonly string[] {
  const log = new EventLog(2000);
  let events = log.note(looks[0] as Seen, 0, 0);
  looks.slice(1).forEach((seen, i) => {
    events = log.note(seen, 250 * (i + 1), 1000 * (i + 1));
  });
  return events.map(({ t, severity, text }) => `${t} ${severity}: ${text}`);
}

describe('events', () => {
  it('are none where nothing has changed, and none at the first look', () => {
    expect(saidAfter(nodes({}), nodes({}), nodes({ age_ms: 99 }))).to.deep.equal([]);
  });

  it('tell of workers that died, and that all are there again', () => {
    const looks = [nodes({}), nodes({ restarts: 2, workers: 0 }), nodes({ restarts: 2 })];
    expect(saidAfter(...looks)).to.deep.equal(['1 bad: 2 workers of a died', '2 good: a has all its workers']);
  });

  it('tell of scaling, of reloads and of nodes that come and go', () => {
    const looks = [
      nodes({}),
      nodes({ workers_wanted: 3 }),
      nodes({ workers_wanted: 3, workers: 3, reloads: 1 }),
      nodes({ workers_wanted: 3, workers: 3, reloads: 1, state: 'stale' }),
      nodes({ workers_wanted: 3, workers: 3, reloads: 1, state: 'down' }),
      nodes({ workers_wanted: 3, workers: 3, reloads: 1 }, { node: 'b' }),
      nodes({ workers_wanted: 3, workers: 3, reloads: 1, state: 'stopped' }, { node: 'b', pid: 7 }),
    ];
    expect(saidAfter(...looks)).to.deep.equal([
      '1 change: a was scaled from 2 to 3 workers',
      '2 change: a was reloaded',
      '3 bad: a is stale: no heartbeat',
      '5 good: the heartbeat of a is back',
      '5 good: b is up',
      '6 change: a was stopped',
      '6 good: b has started anew',
    ]);
  });

  it('tell of versions, of those that could not be loaded, and of threads that died', () => {
    const looks = [{}, { versions: ['1', '2'] }, { versions: ['2'], load_failures: 1, thread_crashes: 1 }];
    expect(saidAfter(...looks.map((fields) => ({ nodes: [], models: [model(fields)] })))).to.deep.equal([
      '1 change: m has version 2',
      '2 bad: a version of m could not be loaded',
      '2 bad: a thread of m died',
    ]);
  });

  it('tell of a time in which nothing could be read', () => {
    const log = new EventLog(2000);
    log.note(nodes({}), 0, 0);
    const [event] = log.note(nodes({}), 12_000, 12_000);
    expect(event).to.deep.equal({
      t: 12,
      severity: 'good',
      text: 'metrics can be read again, after 12 s without Redis',
    });
  });

  it('are a hundred at the most', () => {
    const log = new EventLog(2000);
    for (let i = 0; i < 300; i++) log.note(nodes({ reloads: i }), i, i);
    expect(log.note(nodes({ reloads: 300 }), 300, 300)).to.have.lengthOf(100);
  });
});
