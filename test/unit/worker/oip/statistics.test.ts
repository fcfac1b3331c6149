import { expect } from 'chai';
import { bucketMiddleMs, bucketOf } from '#src/metrics/histogram.js';
import { noCounts, noModelCounts } from '#src/metrics/merge.js';
import { Recorder } from '#src/metrics/recorder.js';
import { type ModelStatistics, type StatisticsByModel, statisticsOf } from '#src/metrics/statistics.js';
import { modelStatisticsResponse } from '#src/protocol/oip/messages.js';
import { decode, encode } from '#src/protocol/protobuf/messages.js';
import { CallError } from '#src/worker/oip/service.js';
import { modelStatisticsOf, NodeStatistics } from '#src/worker/oip/statistics.js';
import { withClock } from '../../../support/clock.js';

function answer(answered: number): StatisticsByModel {
  const counts = { ...noCounts(), models: { m: { ...noModelCounts(), received: answered, answered } } };
  return statisticsOf(counts, new Map([['m', 5]]));
}

const answeredOf = (found: ReadonlyMap<string, ModelStatistics>): number => found.get('m')?.answered as number;

describe('the statistics that a worker asks its primary for', () => {
  const clock = withClock();
  let questions: number[];
  let node: NodeStatistics;
  let isPrimaryGone = false;

  beforeEach(() => {
    questions = [];
    isPrimaryGone = false;
    node = new NodeStatistics({
      ask: async ({ question }) => {
        questions.push(question);
        if (isPrimaryGone) throw new Error('channel closed');
      },
      timeoutMs: 1000,
      lastRunAt: () => 7,
    });
  });

  it('are asked for with one question at a time; who comes meanwhile shares the next, which is not older than they', async () => {
    const first = node.of(['m']);
    const later = Array.from({ length: 100 }, () => node.of(['m']));
    expect(questions).to.deep.equal([1]);
    node.answered({ kind: 'statistics', question: 1, models: answer(1) });
    expect(answeredOf(await first)).to.equal(1);
    await Promise.resolve();
    expect(questions).to.deep.equal([1, 2]);
    node.answered({ kind: 'statistics', question: 2, models: answer(2) });
    expect((await Promise.all(later)).map(answeredOf)).to.deep.equal(new Array(100).fill(2));
    const last = node.of(['m']);
    expect(questions).to.deep.equal([1, 2, 3]);
    node.answered({ kind: 'statistics', question: 3, models: answer(3) });
    expect(answeredOf(await last)).to.equal(3);
  });

  it('are refused with the reason when the primary does not answer; a late answer is not taken for the next one', async () => {
    const first = node.of(['m']).catch((error: unknown) => error);
    clock().tick(999);
    expect(questions).to.deep.equal([1]);
    clock().tick(1);
    const error = (await first) as CallError;
    expect(error).to.be.instanceOf(CallError);
    expect(error.reason).to.equal('OVERLOADED');
    expect(error.message).to.include('did not tell its statistics within 1000 ms (cluster.hangTimeoutMs)');
    const second = node.of(['m']);
    expect(questions).to.deep.equal([1, 2]);
    node.answered({ kind: 'statistics', question: 1, models: answer(1) });
    node.answered({ kind: 'statistics', question: 2, models: answer(2) });
    expect(answeredOf(await second)).to.equal(2);
  });

  it('are refused at once when the primary is gone, also to those who wait for the next answer', async () => {
    isPrimaryGone = true;
    const asked = [node.of(['m']), node.of(['m'])].map((one) => one.catch((error: Error) => error.message));
    for (const message of await Promise.all(asked)) expect(message).to.include('is gone');
    expect(questions).to.deep.equal([1, 2]);
  });

  it('have the last run of this worker, which the primary learns later; a model that nobody asked has zeros', async () => {
    const asked = node.of(['m', 'other']);
    node.answered({ kind: 'statistics', question: 1, models: answer(1) });
    const found = await asked;
    expect(found.get('m')?.lastRunAt).to.equal(7);
    expect(found.get('other')).to.include({ requests: 0, calls: 0, runNs: 0 });
  });
});

describe('the statistics of a model', () => {
  it('are told as Triton tells them, in every field, and survive Protocol Buffers', () => {
    const recorder = new Recorder(['m']);
    const model = recorder.model('m');
    model.count('received', 10);
    model.count('answered', 6);
    model.count('failed', 1);
    model.count('refusedQueueFull', 2);
    model.count('expired', 1);
    model.time('latency', 3, 6);
    // Two calls: of four requests with two rows each, and of three with one.
    model.batch(8);
    model.batch(3);
    for (const ms of [1, 2]) model.time('runTime', ms);
    model.time('queueTime', 0.5, 4);
    model.time('queueTime', 0.25, 3);
    model.count('requestRunNs', 4e6 + 6e6);
    model.count('retriedRows', 3);
    const [told] = Object.values(statisticsOf(recorder.snapshot(), new Map([['m', 1_700_000_000_123.7]])));
    expect(told?.requests).to.equal(10);
    const value = modelStatisticsOf('m', '3', told as ModelStatistics);
    const ns = (ms: number): number => Math.round(bucketMiddleMs(bucketOf(ms)) * 1e6);
    const expected = {
      name: 'm',
      version: '3',
      last_inference: 1_700_000_000_123,
      inference_count: 11,
      execution_count: 5,
      inference_stats: {
        success: { count: 6, ns: 6 * ns(3) },
        fail: { count: 4, ns: 0 },
        queue: { count: 7, ns: 4 * ns(0.5) + 3 * ns(0.25) },
        compute_input: { count: 7, ns: 0 },
        compute_infer: { count: 7, ns: 10e6 },
        compute_output: { count: 7, ns: 0 },
        cache_hit: { count: 0, ns: 0 },
        cache_miss: { count: 0, ns: 0 },
      },
      batch_stats: [],
    };
    expect(value).to.deep.equal(expected);
    expect(value.inference_stats?.success?.ns).to.be.closeTo(18e6, 0.017 * 18e6);
    const bytes = encode(modelStatisticsResponse, { model_stats: [value] });
    expect(decode(modelStatisticsResponse, bytes).model_stats).to.deep.equal([expected]);
  });
});
