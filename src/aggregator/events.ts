// Events, derived from the differences between two polls of the cluster: workers that died, reloads, scaling, nodes
// that came and went, versions, and times in which nothing could be read.

import { type Loss, lossText } from './losses.js';
import type { ClusterEvent, Metrics, ModelMetrics, NodeMetrics } from './metrics.js';

/** What events are derived from. */
export type Seen = Pick<Metrics, 'nodes' | 'models'>;

const keptEvents = 100;
export class EventLog {
  readonly #pauseMs: number;
  #events: readonly ClusterEvent[] = [];
  #before: Seen | null = null;
  #polledAt = 0;

  /** @param pauseMs a longer time between two polls means that Redis did not answer */
  constructor(pauseMs: number) {
    this.#pauseMs = pauseMs;
  }

  /**
   * @param now milliseconds of the monotonic clock
   * @param wallNow milliseconds since the epoch
   * @param losses since the last call
   * @returns all events that are kept, the oldest first
   */
  note(seen: Seen, now: number, wallNow: number, losses: readonly Loss[] = []): readonly ClusterEvent[] {
    const found: Omit<ClusterEvent, 't'>[] = [];
    if (this.#before !== null) {
      const pausedMs = now - this.#polledAt;
      if (pausedMs > this.#pauseMs) {
        const text = `metrics can be read again, after ${Math.round(pausedMs / 1000)} s without Redis`;
        found.push({ severity: 'good', text });
      }
      found.push(...nodeEvents(this.#before.nodes, seen.nodes), ...modelEvents(this.#before.models, seen.models));
    }
    for (const loss of losses) found.push(bad(`lost with a worker of ${loss.node}: ${lossText(loss)}`));
    this.#before = seen;
    this.#polledAt = now;
    if (found.length > 0) {
      const t = Math.floor(wallNow / 1000);
      this.#events = [...this.#events, ...found.map((event) => ({ t, ...event }))].slice(-keptEvents);
    }
    return this.#events;
  }
}

type Found = Omit<ClusterEvent, 't'>;

function nodeEvents(before: readonly NodeMetrics[], after: readonly NodeMetrics[]): readonly Found[] {
  const known = new Map(before.map((node) => [node.node, node]));
  return after.flatMap((node) => {
    const old = known.get(node.node);
    if (old === undefined) return node.state === 'up' ? [good(`${node.node} is up`)] : [];
    return old.pid === node.pid ? changesOf(old, node) : [good(`${node.node} has started anew`)];
  });
}

function changesOf(old: NodeMetrics, node: NodeMetrics): readonly Found[] {
  const found: Found[] = [];
  const { node: name } = node;
  const died = node.restarts - old.restarts;
  if (died > 0) found.push(bad(`${died === 1 ? 'a worker' : `${died} workers`} of ${name} died`));
  if (node.workers_wanted !== old.workers_wanted)
    found.push(change(`${name} was scaled from ${old.workers_wanted} to ${node.workers_wanted} workers`));
  if (node.reloads > old.reloads) found.push(change(`${name} was reloaded`));
  if (node.state !== old.state) {
    if (node.state === 'stopped') found.push(change(`${name} was stopped`));
    else if (node.state === 'up') found.push(good(`the heartbeat of ${name} is back`));
    else if (old.state === 'up') found.push(bad(`${name} is ${node.state}: no heartbeat`));
  }
  const wasWhole = old.workers >= old.workers_wanted;
  const isWhole = node.workers >= node.workers_wanted;
  const hadDeaths = node.restarts > 0 && old.workers_wanted === node.workers_wanted;
  if (!wasWhole && isWhole && hadDeaths) found.push(good(`${name} has all its workers`));
  return found;
}

function modelEvents(before: readonly ModelMetrics[], after: readonly ModelMetrics[]): readonly Found[] {
  const known = new Map(before.map((model) => [model.name, model]));
  return after.flatMap((model) => {
    const old = known.get(model.name);
    if (old === undefined) return [];
    const fresh = model.versions.filter((version) => !old.versions.includes(version));
    // When all workers are gone for a moment, that is no new version.
    const changed =
      old.versions.length === 0 ? [] : fresh.map((version) => change(`${model.name} has version ${version}`));
    const failed =
      model.load_failures > old.load_failures ? [bad(`a version of ${model.name} could not be loaded`)] : [];
    const crashed = model.thread_crashes > old.thread_crashes ? [bad(`a thread of ${model.name} died`)] : [];
    const hung = model.thread_hangs > old.thread_hangs ? [bad(`a run of ${model.name} hangs`)] : [];
    return [...changed, ...failed, ...crashed, ...hung];
  });
}

const bad = (text: string): Found => ({ severity: 'bad', text });
const good = (text: string): Found => ({ severity: 'good', text });
const change = (text: string): Found => ({ severity: 'change', text });
