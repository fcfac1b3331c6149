// Whether the cluster is healthy, and if not, why: one definition for the page and the terminal.

import { percent, span } from '../format.js';
import { lossText } from './losses.js';
import type { Metrics, NodeMetrics } from './metrics.js';

/** Shares of the requests beyond which something is wrong. */
const maxErrorShare = 0.01;
const maxAbandonedShare = 0.01;
const maxNamedNodes = 3;

/** The problems of the cluster, the worst first; empty when it is healthy. */
export function troublesOf(metrics: Metrics): readonly string[] {
  const { nodes, workers, audit_imbalance, errors_per_second, abandoned_per_second, requests_per_second } = metrics;
  const found = [...withoutHeartbeat(nodes)];
  if (!workers.some(({ state }) => state === 'ready')) found.push('no worker is ready');
  const missing = nodes
    .filter(({ state }) => state === 'up')
    .reduce((sum, node) => sum + Math.max(0, node.workers_wanted - node.workers), 0);
  if (missing > 0) found.push(`${missing} ${missing === 1 ? 'worker is' : 'workers are'} missing`);
  const lost = lossText({ requests: metrics.requests_lost_60s, connections: metrics.connections_lost_60s });
  if (lost !== '') found.push(`${lost} lost in the last minute with a worker that died`);
  const all = Math.max(requests_per_second, errors_per_second, abandoned_per_second);
  if (errors_per_second > maxErrorShare * all) found.push(`${percent(errors_per_second / all)} of the requests fail`);
  if (abandoned_per_second > maxAbandonedShare * all)
    found.push(
      `${percent(abandoned_per_second / all)} of the requests are abandoned: their connections end before the reply`,
    );
  if (audit_imbalance !== 0 && requests_per_second === 0) found.push(`the audit is off by ${audit_imbalance}`);
  return found;
}

function withoutHeartbeat(nodes: readonly NodeMetrics[]): readonly string[] {
  const silent = nodes
    .filter(({ state }) => state === 'down' || state === 'stale')
    .toSorted((a, b) => b.age_ms - a.age_ms);
  const named = silent
    .slice(0, maxNamedNodes)
    .map(({ node, state, age_ms }) => `${node} is ${state}: no heartbeat for ${span(age_ms / 1000)}`);
  const others = silent.length - named.length;
  return others > 0 ? [...named, `no heartbeat of ${others} more`] : named;
}
