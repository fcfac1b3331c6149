// Three lines of time: requests, latency, errors. uPlot draws them; what they say stands beside them as text.

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import type { HistoryPoint } from '../history-point.js';

export interface Series {
  readonly label: string;
  /** Name of a colour in page.css. */
  readonly color: string;
  /** Dashes tell lines apart where colours do not. */
  readonly dash?: readonly number[];
  value(point: HistoryPoint): number | null;
}

export interface ChartProps {
  readonly title: string;
  /** What the chart shows now, in words. */
  readonly summary: string;
  readonly series: readonly Series[];
  readonly points: readonly HistoryPoint[];
  format(value: number): string;
  /** How high the chart reaches at the least, so that hardly anything does not look like much. */
  readonly least: number;
}

const height = 174;
/** What is shown at the least, and at the most. */
const windowSeconds = { least: 120, most: 15 * 60 } as const;

const cssColor = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function dataOf(points: readonly HistoryPoint[], series: readonly Series[]): uPlot.AlignedData {
  return [points.map(({ t }) => t), ...series.map(({ value }) => points.map(value))] as uPlot.AlignedData;
}

function create(host: HTMLElement, { series, points, format, least }: ChartProps): uPlot {
  const axis = { stroke: cssColor('muted'), grid: { stroke: cssColor('line'), width: 1 }, ticks: { show: false } };
  return new uPlot(
    {
      width: host.clientWidth,
      height,
      legend: { show: false },
      cursor: { show: false },
      padding: [10, 12, 0, 0],
      scales: {
        x: { range: (_plot, first, last) => [last - windowOf(last - first), last] },
        y: { range: (_plot, _lowest, highest) => [0, Math.max(highest * 1.1, least)] },
      },
      axes: [
        { ...axis, space: 70, size: 28, values: (_plot, times) => times.map((t) => timeOfDay(t)) },
        { ...axis, size: 60, values: (_plot, values) => values.map(format) },
      ],
      series: [
        {},
        ...series.map(({ label, color, dash }) => ({
          label,
          stroke: cssColor(color),
          width: 1.5,
          points: { show: false },
          ...(dash === undefined ? {} : { dash: [...dash] }),
        })),
      ],
    },
    dataOf(points, series),
    host,
  );
}

const windowOf = (seconds: number): number => Math.min(Math.max(seconds, windowSeconds.least), windowSeconds.most);

const timeOfDay = (epochSeconds: number): string =>
  new Date(epochSeconds * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

export function Chart(props: ChartProps) {
  const { title, summary, series, points } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  useEffect(() => {
    const element = host.current as HTMLDivElement;
    const rebuild = (): void => {
      plot.current?.destroy();
      plot.current = create(element, latest.current);
    };
    rebuild();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', rebuild);
    return () => {
      resized.disconnect();
      scheme.removeEventListener('change', rebuild);
      plot.current?.destroy();
    };
  }, []);
  const lastTime = points.at(-1)?.t;
  useEffect(() => plot.current?.setData(dataOf(points, series)), [lastTime, points.length]);
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {series.map(({ label, color, dash }) => (
            <span key={label}>
              <svg width="18" height="6" aria-hidden="true">
                <line x1="0" y1="3" x2="18" y2="3" class={`stroke-${color}`} stroke-dasharray={dash?.join(' ')} />
              </svg>
              {label}
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={host} class="plot" role="img" aria-label={`${title}, the last 15 minutes. Now: ${summary}`} />
    </figure>
  );
}
