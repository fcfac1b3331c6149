// The statistics of a model for clients of the Open Inference Protocol. They are of the whole node, which only the
// primary knows: clients subtract two answers, and their second question may come to another worker than the first.

import type { FromWorker, ToWorker } from '../../ipc/messages.js';
import type { ModelStatistics, StatisticsByModel } from '../../metrics/statistics.js';
import type { modelStatisticsResponse } from '../../protocol/oip/messages.js';
import type { Value } from '../../protocol/protobuf/messages.js';
import { CallError } from './service.js';

type Question = Extract<FromWorker, { kind: 'ask-statistics' }>;
type Answer = Extract<ToWorker, { kind: 'statistics' }>;

interface Pending {
  readonly question: number;
  readonly timer: NodeJS.Timeout;
  readonly settle: (answer: StatisticsByModel | CallError) => void;
  /** Resolves when it has been answered, or nobody waits for that any more. */
  readonly isOver: Promise<unknown>;
}

export interface NodeStatisticsOptions {
  /** Sends a question to the primary; rejects when it is gone. */
  readonly ask: (question: Question) => Promise<void>;
  readonly timeoutMs: number;
  /** When this worker's own last run ended, by model, in milliseconds since the epoch: the primary learns it later. */
  readonly lastRunAt?: (model: string) => number;
}

export class NodeStatistics {
  readonly #ask: (question: Question) => Promise<void>;
  readonly #timeoutMs: number;
  readonly #lastRunAt: (model: string) => number;
  #questions = 0;
  #pending: Pending | null = null;
  /** The answer to the question that follows the pending one, for all who came after that was asked. */
  #next: Promise<StatisticsByModel> | null = null;

  constructor({ ask, timeoutMs, lastRunAt = () => 0 }: NodeStatisticsOptions) {
    this.#ask = ask;
    this.#timeoutMs = timeoutMs;
    this.#lastRunAt = lastRunAt;
  }

  /**
   * Those of these models, with everything that the node has counted until now: each reply that a client has is in
   * them. Rejects with CallError OVERLOADED when the primary does not answer in time.
   */
  async of(models: readonly string[]): Promise<ReadonlyMap<string, ModelStatistics>> {
    const answer = await this.#answer();
    return new Map(
      models.map((name) => {
        const statistics = answer[name] ?? none;
        const lastRunAt = Math.max(statistics.lastRunAt, this.#lastRunAt(name));
        return [name, { ...statistics, lastRunAt }];
      }),
    );
  }

  /** The primary has answered. */
  answered({ question, models }: Answer): void {
    if (question === this.#pending?.question) this.#pending.settle(models);
  }

  /** One question at a time, however many want an answer: the one under way may have been answered before they came. */
  #answer(): Promise<StatisticsByModel> {
    if (this.#pending === null) return this.#put();
    this.#next ??= this.#pending.isOver.then(() => {
      this.#next = null;
      return this.#put();
    });
    return this.#next;
  }

  #put(): Promise<StatisticsByModel> {
    const question = ++this.#questions;
    const answer = new Promise<StatisticsByModel>((resolve, reject) => {
      const settle: Pending['settle'] = (result) => {
        clearTimeout(timer);
        this.#pending = null;
        over();
        if (result instanceof CallError) reject(result);
        else resolve(result);
      };
      let over = (): void => {};
      const isOver = new Promise<void>((isDone) => {
        over = isDone;
      });
      const timer = setTimeout(() => settle(late(this.#timeoutMs)), this.#timeoutMs);
      this.#pending = { question, timer, settle, isOver };
    });
    this.#ask({ kind: 'ask-statistics', question }).catch(() => {
      if (this.#pending?.question === question) this.#pending.settle(gone());
    });
    return answer;
  }
}

const late = (timeoutMs: number): CallError =>
  new CallError(
    'OVERLOADED',
    `the primary process of the node did not tell its statistics within ${timeoutMs} ms (cluster.hangTimeoutMs): it is busy or stopped; ask again`,
    1000,
  );

const gone = (): CallError =>
  new CallError(
    'OVERLOADED',
    'the primary process of the node is gone, and with it its statistics; connect again',
    1000,
  );

/** Of a model that has not been asked anything. */
const none: ModelStatistics = {
  requests: 0,
  answered: 0,
  answeredNs: 0,
  failed: 0,
  run: 0,
  queuedNs: 0,
  runNs: 0,
  rows: 0,
  calls: 0,
  lastRunAt: 0,
};

type ModelStatisticsValue = NonNullable<Value<(typeof modelStatisticsResponse)['fields']>['model_stats']>[number];

/**
 * One entry of `model_stats`. As in Triton, `success`, `queue` and `compute_infer` have a time for each request, and
 * requests that share a run have all of its time each; other than there, failed ones that were run are in the latter
 * two, in `inference_count` and in `execution_count`. How long a failure took is not known, nor what it takes to make
 * tensors of payloads, which is part of the run. All fields are there: clients read JSON without asking whether they are.
 */
export function modelStatisticsOf(name: string, version: string, statistics: ModelStatistics): ModelStatisticsValue {
  const { answered, answeredNs, failed, run, queuedNs, runNs, rows, calls, lastRunAt } = statistics;
  const duration = (count: number, ns: number) => ({ count, ns });
  return {
    name,
    version,
    last_inference: Math.floor(lastRunAt),
    inference_count: rows,
    execution_count: calls,
    inference_stats: {
      success: duration(answered, answeredNs),
      fail: duration(failed, 0),
      queue: duration(run, queuedNs),
      compute_input: duration(run, 0),
      compute_infer: duration(run, runNs),
      compute_output: duration(run, 0),
      cache_hit: duration(0, 0),
      cache_miss: duration(0, 0),
    },
    batch_stats: [],
  };
}
