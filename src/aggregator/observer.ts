// Polls the cluster and keeps the last snapshot: requests are answered from it at once, and never wait for a worker, a
// machine or Redis.

import { messageOf } from '../errors.js';
import type { RecordSource } from '../metrics/transport/transport.js';
import { type ClusterState, ClusterView } from './cluster-view.js';
import { lateMs, pollOverdueMs } from './freshness.js';
import type { Metrics } from './metrics.js';
import { type ClusterRejection, RejectionHistory } from './rejections.js';
import { SilenceWatch } from './silence.js';

export class ClusterObserver {
  readonly silence: SilenceWatch;
  readonly #source: RecordSource;
  readonly #view: ClusterView;
  readonly #rejections = new RejectionHistory();
  readonly #timer: NodeJS.Timeout;
  readonly #staleAfterMs: number;
  #state: ClusterState;
  #polledAt = Number.NEGATIVE_INFINITY;
  #isReading = false;
  #failure = '';
  #json: string | null = null;

  constructor(source: RecordSource, publishIntervalMs: number) {
    this.#source = source;
    this.#view = new ClusterView(publishIntervalMs);
    this.#staleAfterMs = pollOverdueMs(publishIntervalMs);
    this.silence = new SilenceWatch(lateMs(publishIntervalMs));
    this.#state = this.#view.update({ records: [], now: Date.now() }, performance.now());
    // A little more often than records are renewed, so that what is shown is never two intervals old.
    this.#timer = setInterval(() => void this.poll(), 0.75 * publishIntervalMs);
  }

  /** The last snapshot. */
  get state(): ClusterState {
    return this.#state;
  }

  /** Milliseconds since the records could be read; Infinity before the first time. */
  get ageMs(): number {
    return performance.now() - this.#polledAt;
  }

  /** Whether the last snapshot is too old to be trusted. */
  get isStale(): boolean {
    return this.ageMs > this.#staleAfterMs;
  }

  /** Why the records cannot be read; empty when they could be read last. */
  get failure(): string {
    return this.#failure;
  }

  /** The last snapshot, with its age now. */
  metrics(): Metrics {
    return { ...this.#state.metrics, age_ms: Math.round(Math.min(this.ageMs, 1e12)), stale: this.isStale };
  }

  /** The same as JSON; made once a poll, however many ask. */
  json(): string {
    this.#json ??= JSON.stringify(this.#state.metrics);
    const { age_ms, stale } = this.metrics();
    return `{"age_ms":${age_ms},"stale":${stale},${this.#json.slice(1)}`;
  }

  /** Why requests were refused in the cluster since this aggregator began, the newest first. */
  get rejections(): readonly ClusterRejection[] {
    return this.#rejections.newestFirst;
  }

  /** Reads the records now. When they cannot be read, the last state stays and grows old. */
  async poll(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      const snapshot = await this.#source.read();
      this.#polledAt = performance.now();
      this.silence.saw(
        snapshot.records.map(({ record }) => record),
        this.#polledAt,
      );
      this.#state = this.#view.update(snapshot, this.#polledAt);
      this.#rejections.note(snapshot);
      this.#json = null;
      this.#failure = '';
    } catch (error) {
      this.#failure = messageOf(error, 500);
      this.silence.sawNothing();
      // The transport has told the log; readiness and the age tell the rest.
    } finally {
      this.#isReading = false;
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
