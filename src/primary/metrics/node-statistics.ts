// Answers workers that ask for the counts of the whole node: a client may come to another worker with each request, and
// takes the difference of two answers. An answer has everything that was counted before its question came: the counters
// are read after it, from the files in which workers keep them safe before a reply leaves.

import type { ToWorker } from '../../ipc/messages.js';
import type { WorkerCounts, WorkerRecord } from '../../metrics/snapshot.js';
import { statisticsOf } from '../../metrics/statistics.js';

export interface StatisticsAsker {
  send(message: ToWorker): void;
}

/** To read all counters takes the primary no more than this share of its time; questions wait, and share an answer. */
const readingShare = 1 / 20;
/** However quickly they are read. */
const leastGapMs = 5;

export class NodeStatistics {
  readonly #counts: () => WorkerCounts;
  /** By model, when a run ended last in any worker of this run of the node. */
  readonly #lastRunAt = new Map<string, number>();
  #questions: (readonly [asker: StatisticsAsker, question: number])[] = [];
  #timer: NodeJS.Timeout | undefined;
  #notBefore = Number.NEGATIVE_INFINITY;

  /** @param counts reads those of the whole node */
  constructor(counts: () => WorkerCounts) {
    this.#counts = counts;
  }

  /** A worker has published its record. */
  saw({ gauges }: WorkerRecord): void {
    for (const [name, { lastRunAt = 0 }] of Object.entries(gauges.models)) {
      if (lastRunAt > (this.#lastRunAt.get(name) ?? 0)) this.#lastRunAt.set(name, lastRunAt);
    }
  }

  ask(asker: StatisticsAsker, question: number): void {
    this.#questions.push([asker, question]);
    this.#timer ??= setTimeout(this.#answer, Math.max(0, this.#notBefore - performance.now()));
  }

  readonly #answer = (): void => {
    this.#timer = undefined;
    const questions = this.#questions;
    this.#questions = [];
    const begin = performance.now();
    const models = statisticsOf(this.#counts(), this.#lastRunAt);
    for (const [asker, question] of questions) asker.send({ kind: 'statistics', question, models });
    const end = performance.now();
    this.#notBefore = end + Math.max(leastGapMs, (end - begin) / readingShare);
  };
}
