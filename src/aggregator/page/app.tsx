// The page: is it healthy, how fast, how many errors, which worker is the odd one out, what happened lately.

import { clock, count, duration, percent, span } from '../../format.js';
import type { ClusterEvent } from '../metrics.js';
import { Chart, type Series } from './charts.js';
import type { Connection, FeedState } from './feed.js';
import { ModelTable, NodeTable, WorkerTable } from './tables.js';

const rate: readonly Series[] = [{ label: 'requests/s', color: 'blue', value: ({ rps }) => rps }];
const latency: readonly Series[] = [
  { label: 'p99', color: 'red', value: ({ p99_ms }) => p99_ms },
  { label: 'p90', color: 'amber', dash: [6, 3], value: ({ p90_ms }) => p90_ms },
  { label: 'p50', color: 'green', dash: [2, 3], value: ({ p50_ms }) => p50_ms },
];
const errors: readonly Series[] = [
  { label: 'errors/s', color: 'red', value: ({ errors_per_second }) => errors_per_second },
];

function statusText({ connection, ageMs, refusal, metrics }: FeedState): string {
  const age = span(ageMs / 1000);
  const texts: Record<Connection, string> = {
    connecting: 'Connecting to the aggregator…',
    live: 'Live',
    stale: `Stale: the cluster cannot be read; these numbers are ${age} old`,
    silent: `Silent: no update for ${age}`,
    gone: `The aggregator is gone; these numbers are ${age} old. Connecting again…`,
    refused: `Refused: ${refusal}${metrics === null ? '' : `. These numbers are ${age} old`}`,
  };
  return texts[connection];
}

/** What is wrong with the cluster, the worst first; empty when all is well. */
function troubles({ metrics }: FeedState): readonly string[] {
  if (metrics === null) return [];
  const { nodes, workers, audit_imbalance, errors_per_second, requests_per_second } = metrics;
  const found: string[] = [];
  const down = nodes.filter(({ state }) => state === 'down' || state === 'stale');
  if (down.length > 0) found.push(`not heard of: ${down.map(({ node }) => node).join(', ')}`);
  if (!workers.some(({ state }) => state === 'ready')) found.push('no worker serves');
  const missing = nodes
    .filter(({ state }) => state === 'up')
    .reduce((sum, node) => sum + Math.max(0, node.workers_wanted - node.workers), 0);
  if (missing > 0) found.push(`${missing} ${missing === 1 ? 'worker is' : 'workers are'} missing`);
  if (errors_per_second > 0.01 * requests_per_second)
    found.push(`${percent(errors_per_second / Math.max(requests_per_second, errors_per_second))} of the requests fail`);
  if (Math.abs(audit_imbalance) > 0 && requests_per_second === 0) found.push(`the audit is off by ${audit_imbalance}`);
  return found;
}

const icons: Record<Connection, string> = {
  connecting: '◌',
  live: '●',
  stale: '◐',
  silent: '◐',
  gone: '○',
  refused: '✖',
};

function Header({ state }: { readonly state: FeedState }) {
  const found = troubles(state);
  const health = state.connection !== 'live' ? 'unknown' : found.length === 0 ? 'good' : 'bad';
  const words = { unknown: 'Unknown', good: 'Healthy', bad: 'Look here' }[health];
  return (
    <header>
      <h1>ml-tcp-server</h1>
      <p class={`health ${health}`}>
        <span aria-hidden="true">{{ unknown: '?', good: '✔', bad: '✖' }[health]}</span> {words}
      </p>
      <p class="troubles">{health === 'bad' ? found.join('; ') : ''}</p>
      <p class={`connection ${state.connection}`} role="status">
        <span aria-hidden="true">{icons[state.connection]}</span> {statusText(state)}
      </p>
    </header>
  );
}

function Tile({ label, value, note = '' }: { readonly label: string; readonly value: string; readonly note?: string }) {
  return (
    <div class="tile">
      <dt>{label}</dt>
      <dd>
        {value}
        <small>{note}</small>
      </dd>
    </div>
  );
}

function Tiles({ state: { metrics } }: { readonly state: FeedState }) {
  const nodes = metrics?.nodes ?? [];
  const wanted = nodes
    .filter(({ state }) => state === 'up')
    .reduce((sum, { workers_wanted }) => sum + workers_wanted, 0);
  const ready = metrics?.workers.filter(({ state }) => state === 'ready').length;
  const queued = metrics?.models.reduce((sum, model) => sum + model.queued, 0);
  return (
    <dl class="tiles">
      <Tile
        label="Requests/s"
        value={count(metrics?.requests_per_second)}
        note={`${count(metrics?.total_requests)} in all`}
      />
      <Tile
        label="p99"
        value={duration(metrics?.latency_ms_10s.p99)}
        note={`p50 ${duration(metrics?.latency_ms_10s.p50)}`}
      />
      <Tile label="Errors/s" value={count(metrics?.errors_per_second)} note={`${count(metrics?.errors)} in all`} />
      <Tile
        label="Connections"
        value={count(metrics?.connections)}
        note={`${count(metrics?.connections_refused)} refused`}
      />
      <Tile label="In flight" value={count(metrics?.in_flight)} note={`${count(queued)} queued`} />
      <Tile
        label="Workers"
        value={metrics === null ? '–' : `${ready} of ${wanted}`}
        note={`${count(nodes.reduce((sum, { restarts }) => sum + restarts, 0))} replaced`}
      />
      <Tile
        label="Nodes"
        value={count(metrics === null ? null : nodes.filter(({ state }) => state === 'up').length)}
        note={`of ${nodes.length} known`}
      />
      <Tile label="Uptime" value={metrics === null ? '–' : span(metrics.uptime)} />
    </dl>
  );
}

const eventSigns: Record<ClusterEvent['severity'], string> = { bad: '✖', good: '✔', change: '↻' };

function Events({ events }: { readonly events: readonly ClusterEvent[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no mouse scrolls with the keyboard
    <section class="events" tabIndex={0} aria-label="Events">
      <h2>Events</h2>
      <ol>
        {events.toReversed().map(({ t, severity, text }) => (
          <li key={`${t} ${text}`} class={severity}>
            <time dateTime={new Date(t * 1000).toISOString()}>{clock(t)}</time>
            <span aria-hidden="true">{eventSigns[severity]}</span>
            <span>{text}</span>
          </li>
        ))}
        {events.length === 0 && <li>nothing has happened since this aggregator began</li>}
      </ol>
    </section>
  );
}

export function App({ state }: { readonly state: FeedState }) {
  const { metrics, points } = state;
  const last = points.at(-1);
  return (
    <>
      <Header state={state} />
      <main class={state.connection === 'live' ? '' : 'faded'}>
        <Tiles state={state} />
        <div class="charts">
          <Chart
            title="Requests a second"
            summary={count(last?.rps)}
            series={rate}
            least={10}
            points={points}
            format={count}
          />
          <Chart
            title="Latency, over 10 s"
            summary={`p99 ${duration(last?.p99_ms)}, p50 ${duration(last?.p50_ms)}`}
            series={latency}
            least={0.1}
            points={points}
            format={duration}
          />
          <Chart
            title="Errors a second"
            summary={count(last?.errors_per_second)}
            series={errors}
            least={1}
            points={points}
            format={count}
          />
          <Events events={metrics?.events ?? []} />
        </div>
        <ModelTable models={metrics?.models ?? []} />
        <WorkerTable workers={metrics?.workers ?? []} />
        <NodeTable nodes={metrics?.nodes ?? []} />
      </main>
      <footer>
        <a href="metrics">/metrics</a> <a href="api/history">/api/history</a> <a href="readyz">/readyz</a>
      </footer>
    </>
  );
}
