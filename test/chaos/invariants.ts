// What must hold all the while, looked at by those who run beside the chaos.

import { createConnection } from 'node:net';
import type { Metrics } from '#src/aggregator/metrics.js';
import type { ChaosCluster } from './cluster.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A worker that has been ready for so long listens, whatever a status of a moment ago says. */
const surelyReadyMs = 1000;

/** Looks again and again, until it is ended. */
abstract class Watch {
  readonly faults: string[] = [];
  #isOver = false;
  readonly #watching: Promise<void>;

  constructor(cluster: ChaosCluster, intervalMs: number) {
    this.#watching = this.#watch(cluster, intervalMs);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
  }

  protected abstract look(cluster: ChaosCluster): Promise<void>;

  async #watch(cluster: ChaosCluster, intervalMs: number): Promise<void> {
    while (!this.#isOver) {
      await pause(intervalMs);
      await this.look(cluster);
    }
  }
}

/** The port takes connections while any worker is ready. */
export class PortWatch extends Watch {
  /** Times without anybody listening, in milliseconds: no worker was there then. */
  readonly gaps: number[] = [];
  #closedSince = 0;

  constructor(cluster: ChaosCluster) {
    super(cluster, 25);
  }

  protected async look(cluster: ChaosCluster): Promise<void> {
    const { pid } = cluster.node;
    if (await connects(cluster.port)) {
      if (this.#closedSince > 0) this.gaps.push(performance.now() - this.#closedSince);
      this.#closedSince = 0;
      return;
    }
    this.#closedSince ||= performance.now();
    const status = await cluster.status().catch(() => null);
    const ready = status?.workers.find(
      (worker) => worker.state === 'ready' && worker.uptimeSeconds * 1000 > surelyReadyMs,
    );
    // Asked again: it may have been killed between the two looks.
    const isStill = ready !== undefined && cluster.workers.includes(ready.pid) && cluster.node.pid === pid;
    if (isStill && !(await connects(cluster.port)))
      this.faults.push(`the port was closed while worker ${ready.pid} was ready`);
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

/** Totals never fall, whichever aggregator is asked. */
export class TotalsWatch extends Watch {
  looks = 0;
  #highest = 0;

  constructor(cluster: ChaosCluster) {
    super(cluster, 50);
  }

  protected async look({ aggregator }: ChaosCluster): Promise<void> {
    const metrics = await fetch(`${aggregator.url}/metrics`)
      .then((response) => response.json() as Promise<Metrics>)
      .catch(() => null);
    // An aggregator that has just started beside an empty Redis knows nothing yet: it says so.
    if (metrics === null || metrics.stale || metrics.nodes.length === 0) return;
    this.looks++;
    if (metrics.total_requests < this.#highest)
      this.faults.push(`totals fell from ${this.#highest} to ${metrics.total_requests}`);
    this.#highest = Math.max(this.#highest, metrics.total_requests);
  }
}
