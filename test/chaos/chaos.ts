// Random events under load for a while; then calm, and a check of everything that was promised.

import { mkdirSync, writeFileSync } from 'node:fs';
import type { Metrics } from '#src/aggregator/metrics.js';
import { faultOf } from '../support/checked-client.js';
import { root } from '../support/processes.js';
import { until } from '../support/until.js';
import { ChaosCluster } from './cluster.js';
import { chooseEvents } from './events.js';
import { PortWatch, TotalsWatch } from './invariants.js';
import { Random } from './random.js';

export interface ChaosOptions {
  readonly seconds: number;
  /** The same seed causes the same events, as far as a machine can repeat them. */
  readonly seed: number;
  /** Names of the events that may happen; if empty, all except those of `without`. */
  readonly only?: readonly string[];
  readonly without?: readonly string[];
  readonly say?: (line: string) => void;
}

export interface ChaosReport {
  readonly events: number;
  readonly replies: number;
  readonly lost: number;
  readonly longestGapMs: number;
  readonly looks: number;
  /** What went wrong, in words. */
  readonly faults: readonly string[];
  /** The file that records what happened, when there are faults. */
  readonly log?: string;
}

/** How much the memory of a primary may grow: its heap, and what forking leaves behind. */
const toleratedMb = 64;

export async function runChaos({ say = () => {}, ...options }: ChaosOptions): Promise<ChaosReport> {
  const story: string[] = [];
  const tell = (line: string): void => {
    const entry = `${new Date().toISOString()} ${line}`;
    story.push(entry);
    say(entry);
  };
  const cluster = await ChaosCluster.start();
  const report = await injectFault(cluster, { only: [], without: [], ...options, say: tell }).catch((error: Error) => ({
    events: story.length,
    replies: cluster.replies,
    lost: cluster.lost,
    longestGapMs: Number.NaN,
    looks: 0,
    faults: [...cluster.faults, error.message],
  }));
  if (report.faults.length === 0) return report;
  const log = `${root}build/chaos-${options.seed}.log`;
  mkdirSync(`${root}build`, { recursive: true });
  writeFileSync(log, [...story, ...report.faults, cluster.log].join('\n'));
  return { ...report, log };
}

async function injectFault(
  cluster: ChaosCluster,
  { seconds, seed, only, without, say }: Required<ChaosOptions>,
): Promise<ChaosReport> {
  const random = new Random(seed);
  const events = chooseEvents(only, without).map(({ weight, event }) => [weight, event] as const);
  const replied = (): boolean => cluster.clients.every((client) => client.replied > 100);
  await until('the load to begin', replied);
  const ports = cluster.nodes.map((node) => new PortWatch(node));
  const totals = new TotalsWatch(cluster);
  const startedAt = performance.now();
  let happened = 0;
  while (performance.now() - startedAt < seconds * 1000) {
    await new Promise((resolve) => setTimeout(resolve, random.between(50, 700)));
    const did = await random.pick(events)(cluster, random);
    happened++;
    say(did);
  }
  say('calm');
  const { faults } = cluster;
  const expectThat = (isSo: boolean, otherwise: string): void => {
    if (!isSo) faults.push(otherwise);
  };
  await cluster.settle();
  await Promise.all(cluster.clients.map((client) => client.finish()));
  await Promise.all(ports.map((port) => port.end()));
  await totals.end();
  for (const client of cluster.clients) client.destroy();
  const { replies, lost } = cluster;
  const fault = faultOf(cluster.clients);
  expectThat(fault === null, String(fault));
  faults.push(...ports.flatMap((port) => port.faults), ...totals.faults);

  const answered = ({ models }: Metrics): number => models.reduce((sum, model) => sum + model.answered, 0);
  const isRight = (metrics: Metrics): boolean =>
    !metrics.stale &&
    metrics.connections === 0 &&
    metrics.in_flight === 0 &&
    metrics.audit_imbalance === 0 &&
    answered(metrics) >= replies &&
    answered(metrics) <= replies + lost;
  await cluster
    .metricsWhen(`totals of ${replies} replies (${lost} more may have been answered)`, isRight)
    .catch((error: Error) => faults.push(error.message));

  await cluster.settle();
  for (const node of cluster.nodes) {
    const { name, baseline } = node;
    const after = node.footprint();
    expectThat(
      after.descriptors <= baseline.descriptors,
      `the primary of ${name} has ${after.descriptors} descriptors, ${baseline.descriptors} when it began`,
    );
    expectThat(
      after.rssMb <= baseline.rssMb + toleratedMb,
      `the primary of ${name} takes ${after.rssMb.toFixed(0)} MB, ${baseline.rssMb.toFixed(0)} MB when it began`,
    );
    faults.push(...(await node.stop()));
  }
  cluster.clientLink.close();
  cluster.redisLink.close();
  const longestGapMs = Math.max(0, ...ports.flatMap((port) => port.gaps));
  return { events: happened, replies, lost, longestGapMs, looks: totals.looks, faults };
}
