// What the clients saw.

import { ConnectionLostError, type InferenceClient, RequestFailedError } from '../../client/client.js';
import { bucketCount, bucketOf, quantilesMs, toSparse } from '../../metrics/histogram.js';
import type { Check } from './checks.js';

export class Report {
  /** Requests that were sent. */
  sent = 0;
  /** Requests answered with an empty frame. */
  failed = 0;
  #lost = 0;
  #wrong = 0;
  #judged = 0;
  #accurate = 0;
  #right = 0;
  #maxMs = 0;
  #seconds = 0;
  #begunAt = 0;
  #maxLateMs: number | null = null;
  readonly #latency = new Float64Array(bucketCount);
  readonly #lateness = new Float64Array(bucketCount);
  readonly #lostClients = new Set<InferenceClient>();

  begin(): void {
    this.#begunAt = performance.now();
  }

  end(): void {
    this.#seconds = (performance.now() - this.#begunAt) / 1000;
  }

  get done(): number {
    return this.#right + this.#wrong + this.failed + this.#lost;
  }

  /** Whether every request got the right reply. */
  get isClean(): boolean {
    return this.sent > 0 && this.#right === this.sent;
  }

  hasLostConnection(client: InferenceClient): boolean {
    return this.#lostClients.has(client);
  }

  /** Sends one request and records its outcome; its latency counts from `dueAt`. */
  async measure(client: InferenceClient, check: Check, dueAt: number): Promise<void> {
    this.sent++;
    try {
      const reply = await client.infer(check.payload);
      this.#answered(performance.now() - dueAt);
      this.#judge(check, reply);
    } catch (error) {
      if (error instanceof RequestFailedError) {
        this.#answered(performance.now() - dueAt);
        this.failed++;
      } else if (error instanceof ConnectionLostError) {
        this.#lost++;
        this.#lostClients.add(client);
      } else throw error;
    }
  }

  /** Records, at a given rate, how long after it was due a request was sent. Its latency includes that. */
  noteLateness(lateMs: number): void {
    this.#lateness[bucketOf(lateMs)] = (this.#lateness[bucketOf(lateMs)] ?? 0) + 1;
    this.#maxLateMs = Math.max(this.#maxLateMs ?? 0, lateMs);
  }

  format(): string {
    const answered = this.#right + this.#wrong + this.failed;
    const [p50, p90, p99, p999] = quantilesMs(toSparse(this.#latency), [0.5, 0.9, 0.99, 0.999]).map(formatMs);
    const lines = [
      this.#judged > 0
        ? `accuracy     ${((100 * this.#accurate) / this.#judged).toFixed(2)} % of ${this.#judged} digits`
        : null,
      `requests/s   ${Math.round(answered / this.#seconds)} (${answered} replies in ${this.#seconds.toFixed(2)} s)`,
      `latency      p50 ${p50}, p90 ${p90}, p99 ${p99}, p99.9 ${p999}, max ${formatMs(this.#maxMs)}`,
      this.#maxLateMs === null
        ? null
        : `sent         p99 ${formatMs(quantilesMs(toSparse(this.#lateness), [0.99])[0] ?? null)} after it was due, max ${formatMs(this.#maxLateMs)}; latency counts from when it was due`,
      `errors       ${this.failed} failed, ${this.#wrong} wrong, ${this.#lost} lost with ${this.#lostClients.size} connections`,
    ];
    return lines.filter((line) => line !== null).join('\n');
  }

  #judge(check: Check, reply: Buffer): void {
    const verdict = check.judge(reply);
    if (verdict.kind === 'wrong') {
      this.#wrong++;
      return;
    }
    this.#right++;
    if (verdict.isAccurate === null) return;
    this.#judged++;
    if (verdict.isAccurate) this.#accurate++;
  }

  #answered(durationMs: number): void {
    const bucket = bucketOf(durationMs);
    this.#latency[bucket] = (this.#latency[bucket] ?? 0) + 1;
    this.#maxMs = Math.max(this.#maxMs, durationMs);
  }
}

const formatMs = (ms: number | null): string =>
  ms === null ? '–' : `${ms < 1 ? ms.toPrecision(2) : ms < 10 ? ms.toFixed(2) : Math.round(ms)} ms`;
