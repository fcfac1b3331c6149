// The page: is it healthy, how fast, how many errors, which worker is the odd one out, what happened lately.

import { useState } from 'preact/hooks';
import { clock, count, duration, span, ticks } from '../../format.js';
import { troublesOf } from '../health.js';
import type { ClusterEvent } from '../metrics.js';
import { Chart, type TimeFrame } from './charts.js';
import type { Connection, FeedState } from './feed.js';
import { Rejections } from './rejections.js';
import { positive } from './rows.js';
import { ModelTable, NodeTable, WorkerTable } from './tables.js';

/** What may be looked at, in minutes. */
const ranges = [1, 5, 15] as const;
const noEvents: readonly ClusterEvent[] = [];

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

const icons: Record<Connection, string> = {
  connecting: '◌',
  live: '●',
  stale: '◐',
  silent: '◐',
  gone: '○',
  refused: '✖',
};

function Header({ state }: { readonly state: FeedState }) {
  const found = state.metrics === null ? [] : troublesOf(state.metrics);
  const health = state.connection !== 'live' ? 'unknown' : found.length === 0 ? 'good' : 'bad';
  const words = { unknown: 'Unknown', good: 'Healthy', bad: 'Unhealthy' }[health];
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

interface TileProps {
  readonly label: string;
  readonly value: string;
  readonly note?: string;
  readonly isBad?: boolean;
}

function Tile({ label, value, note = '', isBad = false }: TileProps) {
  return (
    <div class={`tile ${isBad ? 'bad' : ''}`}>
      <dt>{label}</dt>
      <dd>
        {value}
        <small>
          {note}
          {isBad ? ' ✖' : ''}
        </small>
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
      <Tile
        label="Errors/s"
        value={count(metrics?.errors_per_second)}
        note={`${count(metrics?.errors)} in all, ${count(metrics?.requests_lost)} lost`}
        isBad={(metrics?.requests_lost_60s ?? 0) > 0}
      />
      <Tile
        label="Connections"
        value={count(metrics?.connections)}
        note={`${count(metrics?.connections_refused)} refused, ${count(metrics?.connections_lost)} lost`}
        isBad={(metrics?.connections_lost_60s ?? 0) > 0}
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

function Ranges({ minutes, onChoose }: { readonly minutes: number; onChoose(minutes: number): void }) {
  return (
    <fieldset class="ranges">
      <legend>Charts show the last</legend>
      {ranges.map((range) => (
        <button
          key={range}
          type="button"
          class="range"
          aria-pressed={range === minutes}
          onClick={() => onChoose(range)}
        >
          {range} min
        </button>
      ))}
    </fieldset>
  );
}

function Charts({ state: { points }, frame }: { readonly state: FeedState; readonly frame: TimeFrame }) {
  const { seconds, events } = frame;
  const last = points.at(-1);
  const times = points.map(({ t }) => t);
  return (
    <div class="charts">
      <Chart
        title="Requests a second"
        summary={count(last?.rps)}
        seconds={seconds}
        events={events}
        times={times}
        lines={[{ label: 'requests/s', color: 'blue', values: points.map(({ rps }) => rps) }]}
        format={count}
        ticks={ticks}
        least={10}
      />
      <Chart
        title="Latency, over 10 s"
        summary={`p99 ${duration(last?.p99_ms)}, p50 ${duration(last?.p50_ms)}`}
        seconds={seconds}
        events={events}
        times={times}
        lines={[
          { label: 'p99', color: 'red', values: positive(points.map(({ p99_ms }) => p99_ms)) },
          { label: 'p90', color: 'amber', dash: [6, 3], values: positive(points.map(({ p90_ms }) => p90_ms)) },
          { label: 'p50', color: 'green', dash: [2, 3], values: positive(points.map(({ p50_ms }) => p50_ms)) },
        ]}
        format={duration}
      />
      <Chart
        title="Errors a second"
        summary={count(last?.errors_per_second)}
        seconds={seconds}
        events={events}
        times={times}
        lines={[{ label: 'errors/s', color: 'red', values: points.map((point) => point.errors_per_second) }]}
        format={count}
        ticks={ticks}
        least={1}
      />
      <Events events={events} />
    </div>
  );
}

export function App({ state }: { readonly state: FeedState }) {
  const { metrics, rows } = state;
  const [minutes, setMinutes] = useState<number>(5);
  const frame = { seconds: 60 * minutes, events: metrics?.events ?? noEvents, history: rows };
  return (
    <>
      <Header state={state} />
      <main class={state.connection === 'live' ? '' : 'faded'}>
        <Tiles state={state} />
        <Ranges minutes={minutes} onChoose={setMinutes} />
        <Charts state={state} frame={frame} />
        <ModelTable models={metrics?.models ?? []} frame={frame} />
        <WorkerTable workers={metrics?.workers ?? []} frame={frame} />
        <NodeTable nodes={metrics?.nodes ?? []} frame={frame} />
        <Rejections />
      </main>
      <footer>
        <a href="metrics">/metrics</a> <a href="api/history">/api/history</a> <a href="api/models">/api/models</a>{' '}
        <a href="api/rejections">/api/rejections</a> <a href="readyz">/readyz</a>
      </footer>
    </>
  );
}
