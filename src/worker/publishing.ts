// Publishes the record of a worker, at an interval and at its end: to the primary, and to Redis where there is one.

import { sendToPrimary } from '../ipc/channel.js';
import type { WorkerBoot } from '../ipc/messages.js';
import type { Recorder } from '../metrics/recorder.js';
import { type WorkerGauges, type WorkerRecord, type WorkerState, workerRecordId } from '../metrics/snapshot.js';
import { IpcPublisher } from '../metrics/transport/ipc.js';
import type { RecordPublisher } from '../metrics/transport/transport.js';
import { createProcessGauges } from './gauges.js';

type ServingGauges = Pick<WorkerGauges, 'connections' | 'inFlight' | 'models' | 'rejections'>;

export class Publishing {
  readonly #boot: WorkerBoot;
  readonly #recorder: Recorder;
  readonly #servingGauges: () => ServingGauges;
  readonly #makeSafe: () => void;
  readonly #processGauges = createProcessGauges();
  readonly #publishers: readonly RecordPublisher[];
  #timer: NodeJS.Timeout | undefined;
  #sequence = 0;
  #underWay: Promise<unknown> | null = null;

  private constructor(
    boot: WorkerBoot,
    recorder: Recorder,
    servingGauges: () => ServingGauges,
    makeSafe: () => void,
    publishers: readonly RecordPublisher[],
  ) {
    this.#boot = boot;
    this.#recorder = recorder;
    this.#servingGauges = servingGauges;
    this.#makeSafe = makeSafe;
    this.#publishers = publishers;
  }

  /** @param makeSafe makes the counts safe, so that nothing that was published is lost with this process */
  static async open(
    boot: WorkerBoot,
    recorder: Recorder,
    servingGauges: () => ServingGauges,
    makeSafe: () => void,
  ): Promise<Publishing> {
    return new Publishing(boot, recorder, servingGauges, makeSafe, await openPublishers(boot));
  }

  /** Publishes once, then every interval; resolves when the first publication is done or has failed. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => this.#tick(), this.#boot.config.metrics.publishIntervalMs);
    await this.#publish('ready');
  }

  /** Publishes the last record. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#underWay;
    await this.#publish('draining');
    for (const publisher of this.#publishers) await publisher.close();
  }

  /** Publications do not queue: while one is under way, a tick does nothing. */
  #tick(): void {
    if (this.#underWay !== null) return;
    this.#underWay = this.#publish('ready').finally(() => {
      this.#underWay = null;
    });
  }

  /** Never rejects: the primary may be gone, Redis may be down, and the next record repeats everything. */
  async #publish(state: WorkerState): Promise<void> {
    const update = { record: this.#record(state), retires: [] };
    await Promise.allSettled(this.#publishers.map((publisher) => publisher.publish(update)));
  }

  #record(state: WorkerState): WorkerRecord {
    const { config, run, slot, incarnation } = this.#boot;
    const { node } = config.cluster;
    this.#makeSafe();
    return {
      kind: 'worker',
      id: workerRecordId(node, run, slot, incarnation),
      node,
      run,
      slot,
      incarnation,
      sequence: ++this.#sequence,
      uptimeMs: Math.round(performance.now()),
      pid: process.pid,
      counts: this.#recorder.snapshot(),
      gauges: { ...this.#processGauges(), ...this.#servingGauges(), state },
    };
  }
}

async function openPublishers({ config: { redis, cluster } }: WorkerBoot): Promise<readonly RecordPublisher[]> {
  const primary = new IpcPublisher((update) => sendToPrimary({ kind: 'update', update }));
  if (redis === null) return [primary];
  // Loaded only where there is a Redis: it takes time and memory in every worker.
  const { RedisPublisher } = await import('../metrics/transport/redis.js');
  // The primary logs whether Redis is there; a line from every worker would say the same.
  return [primary, new RedisPublisher(redis, cluster.name, () => {})];
}
