// What must hold throughout, checked beside the chaos.

import { createConnection } from 'node:net';
import type { Metrics } from '#src/aggregator/metrics.js';
import type { ChaosCluster } from './cluster.js';
import type { ChaosNode } from './node.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A worker that has been ready for this long listens, even if the status is a moment old. */
const surelyReadyMs = 1000;

/** Looks again and again until it is ended. */
abstract class Watch<T> {
  readonly faults: string[] = [];
  #isOver = false;
  readonly #watching: Promise<void>;

  constructor(watched: T, intervalMs: number) {
    this.#watching = this.#watch(watched, intervalMs);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
  }

  protected abstract look(watched: T): Promise<void>;

  async #watch(watched: T, intervalMs: number): Promise<void> {
    while (!this.#isOver) {
      await pause(intervalMs);
      await this.look(watched);
    }
  }
}

/** The port takes connections while any worker is ready. */
export class PortWatch extends Watch<ChaosNode> {
  /** Times in which nobody listened, in milliseconds: there was no worker then. */
  readonly gaps: number[] = [];
  #closedSince = 0;

  constructor(node: ChaosNode) {
    super(node, 25);
  }

  protected async look(node: ChaosNode): Promise<void> {
    const { pid } = node.process;
    if (await connects(node.port)) {
      if (this.#closedSince > 0) this.gaps.push(performance.now() - this.#closedSince);
      this.#closedSince = 0;
      return;
    }
    this.#closedSince ||= performance.now();
    const status = await node.status().catch(() => null);
    const ready = status?.workers.find(
      (worker) => worker.state === 'ready' && worker.uptimeSeconds * 1000 > surelyReadyMs,
    );
    // Asked again: the worker may have been killed between the two looks.
    const isStill = ready !== undefined && node.workers.includes(ready.pid) && node.process.pid === pid;
    if (isStill && !(await connects(node.port)))
      this.faults.push(`the port of ${node.name} was closed while worker ${ready.pid} was ready`);
  }
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Within this time, nodes restore what was lost with Redis and the aggregator together: workers reconnect one by one,
 * and the next primary of a node takes over what the last one's workers counted when those have ended.
 */
const toldAgainMs = 3000;

/** Totals never fall: neither those of one aggregator nor, once every node has told it all, those of the next. */
export class TotalsWatch extends Watch<ChaosCluster> {
  looks = 0;
  #asked = 0;
  #askedSince = 0;
  #highestOfOne = 0;
  #highest = 0;

  constructor(cluster: ChaosCluster) {
    super(cluster, 50);
  }

  protected async look(cluster: ChaosCluster): Promise<void> {
    const { url, pid } = cluster.aggregator;
    const wasRestarting = cluster.isAggregatorRestarting;
    const metrics = await fetch(`${url}/metrics`)
      .then((response) => response.json() as Promise<Metrics>)
      .catch(() => null);
    const isUnsure = wasRestarting || cluster.isAggregatorRestarting || cluster.aggregator.pid !== pid;
    // An aggregator that has just started beside an empty Redis knows nothing yet, and reports that.
    if (metrics === null || metrics.stale || metrics.nodes.length === 0 || isUnsure) return;
    this.looks++;
    const { total_requests: total, nodes } = metrics;
    const now = performance.now();
    if (pid !== this.#asked) {
      this.#highestOfOne = 0;
      this.#askedSince = now;
    }
    this.#asked = pid;
    // An aggregator that started while a node was cut off from an empty Redis cannot know what that node has counted.
    const hasToldAll = cluster.nodes.every(({ name }) =>
      nodes.some(({ node, workers, workers_wanted }) => node === name && workers >= workers_wanted),
    );
    const knowsAll = hasToldAll && now - this.#askedSince > toldAgainMs;
    const atLeast = knowsAll ? this.#highest : this.#highestOfOne;
    if (total < atLeast) this.faults.push(`${new Date().toISOString()} totals fell from ${atLeast} to ${total}`);
    this.#highestOfOne = Math.max(this.#highestOfOne, total);
    this.#highest = Math.max(this.#highest, total);
  }
}
