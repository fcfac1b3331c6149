// Lines over time, drawn by uPlot, with their current values beside them as text. A cursor, moved by the pointer or the
// arrow keys, shows the values and the events of a moment; the pointer shows the same moment in all charts of the page.

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { clock, durationTick } from '../../format.js';
import type { ClusterEvent } from '../metrics.js';

export interface Line {
  readonly label: string;
  /** Name of a colour in page.css. */
  readonly color: string;
  /** Dashes tell lines apart where colours do not. */
  readonly dash?: readonly number[];
  readonly values: readonly (number | null)[];
}

/** What all charts have in common: how many seconds they show, and what happened meanwhile. */
export interface TimeFrame {
  readonly seconds: number;
  readonly events: readonly ClusterEvent[];
}

export interface ChartProps extends TimeFrame {
  readonly title: string;
  /** What the chart shows now, in words. */
  readonly summary: string;
  /** Seconds since the epoch, ascending. */
  readonly times: readonly number[];
  readonly lines: readonly Line[];
  format(value: number): string;
  /** Labels for ticks that lie `step` apart; none: the axis is logarithmic, in milliseconds. */
  ticks?(values: readonly number[], step: number): readonly string[];
  /** The least height of the scale, so that tiny values do not look large. */
  readonly least?: number;
}

const height = 174;
/** Events this near to the pointer are shown. */
const eventReachPx = 6;
const severityColors: Readonly<Record<ClusterEvent['severity'], string>> = {
  bad: 'red',
  good: 'green',
  change: 'blue',
};

const cssColor = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function dataOf({ times, lines }: ChartProps): uPlot.AlignedData {
  return [times, ...lines.map(({ values }) => values)] as unknown as uPlot.AlignedData;
}

/** @param latest the properties as they are at the moment */
function create(host: HTMLElement, latest: () => ChartProps): uPlot {
  const { lines, ticks } = latest();
  const axis = { stroke: cssColor('muted'), grid: { stroke: cssColor('line'), width: 1 }, ticks: { show: false } };
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  const plot = new uPlot(
    {
      width: host.clientWidth,
      height,
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 6 },
        sync: { key: 'time', setSeries: false },
      },
      padding: [10, 12, 0, 0],
      scales: {
        x: {
          range: () => {
            const last = latest().times.at(-1) ?? Date.now() / 1000;
            return [last - latest().seconds, last];
          },
        },
        y:
          ticks === undefined
            ? { distr: 3, log: 10, range: (_plot, lowest, highest) => decades(lowest, highest) }
            : { range: (_plot, _lowest, highest) => [0, Math.max((highest ?? 0) * 1.1, latest().least ?? 1)] },
      },
      axes: [
        {
          ...axis,
          space: 80,
          size: 28,
          values: (drawn, times, _axis, _space, step) => times.map((t) => timeLabel(drawn, t, step)),
        },
        {
          ...axis,
          size: 60,
          ...(ticks === undefined
            ? {
                splits: (_plot, _axis, lowest, highest) => logTicks(lowest, highest),
                filter: (_plot, splits) => splits,
              }
            : {}),
          values: (_plot, values, _axis, _space, step) =>
            ticks === undefined ? values.map(durationTick) : [...ticks(values, step)],
        },
      ],
      series: [
        {},
        ...lines.map(({ label, color, dash }) => ({
          label,
          stroke: cssColor(color),
          width: 1.5,
          points: { show: false },
          ...(dash === undefined ? {} : { dash: [...dash] }),
        })),
      ],
      hooks: {
        drawAxes: [(drawn) => drawEvents(drawn, latest().events)],
        draw: [(drawn) => fillTip(drawn, tip, latest())],
        setCursor: [(drawn) => fillTip(drawn, tip, latest())],
      },
    },
    dataOf(latest()),
    host,
  );
  plot.over.append(tip);
  return plot;
}

/** Whole powers of ten around all values. */
function decades(lowest: number | null, highest: number | null): [number, number] {
  if (lowest === null || highest === null || !(lowest > 0)) return [0.01, 10];
  const low = Math.floor(Math.log10(lowest) + 1e-9);
  return [10 ** low, 10 ** Math.max(low + 1, Math.ceil(Math.log10(highest) - 1e-9))];
}

/** Powers of ten; with few of them, twice and five times each as well. */
function logTicks(lowest: number, highest: number): number[] {
  const [low, high] = [lowest, highest].map((value) => Math.round(Math.log10(value))) as [number, number];
  const steps = high - low > 2 ? [1] : high - low > 1 ? [1, 3] : [1, 2, 5];
  const powers = Array.from({ length: high - low }, (_, i) => 10 ** (low + i));
  return [...powers.flatMap((power) => steps.map((step) => step * power)), 10 ** high];
}

/** No label at the right edge, where it would be cut off. */
function timeLabel({ scales }: uPlot, t: number, step: number): string {
  const { min = 0, max = 1 } = scales.x ?? {};
  if (((max ?? 1) - t) / ((max ?? 1) - (min ?? 0)) < 0.08) return '';
  return step < 60 ? clock(t) : clock(t).slice(0, 5);
}

function drawEvents({ ctx, bbox, scales, valToPos }: uPlot, events: readonly ClusterEvent[]): void {
  const { min = 0, max = 0 } = scales.x ?? {};
  const unit = uPlot.pxRatio;
  ctx.save();
  ctx.lineWidth = unit;
  ctx.setLineDash([2 * unit, 2 * unit]);
  for (const { t, severity } of events) {
    if (t < (min ?? 0) || t > (max ?? 0)) continue;
    const x = Math.round(valToPos(t, 'x', true));
    ctx.strokeStyle = ctx.fillStyle = cssColor(severityColors[severity]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x - 4 * unit, bbox.top - 6 * unit);
    ctx.lineTo(x + 4 * unit, bbox.top - 6 * unit);
    ctx.lineTo(x, bbox.top);
    ctx.fill();
  }
  ctx.restore();
}

function fillTip(plot: uPlot, tip: HTMLElement, { lines, times, events, format }: ChartProps): void {
  const left = plot.cursor.left ?? -1;
  const i = times.length === 0 || left < 0 ? null : plot.posToIdx(left);
  const t = i === null ? undefined : times[i];
  tip.hidden = i === null || t === undefined;
  if (i === null || t === undefined) return;
  const [from, to] = [left - eventReachPx, left + eventReachPx].map((x) => plot.posToVal(x, 'x')) as [number, number];
  const near = events.filter((event) => event.t >= from && event.t <= to);
  tip.replaceChildren(
    lineOf('time', clock(t)),
    ...lines.map(({ label, color, values }) => {
      const value = values[i] ?? null;
      return lineOf(`line-${color}`, `${label} ${value === null ? '–' : format(value)}`);
    }),
    ...near.map(({ t: at, severity, text }) => lineOf(`event ${severity}`, `${clock(at)} ${text}`)),
  );
  const isRight = left > plot.over.clientWidth / 2;
  tip.style.left = isRight ? '' : `${left + 8}px`;
  tip.style.right = isRight ? `${plot.over.clientWidth - left + 8}px` : '';
}

function lineOf(className: string, text: string): HTMLElement {
  const line = document.createElement('div');
  line.className = className;
  line.textContent = text;
  return line;
}

/** Arrow keys move from point to point, Home and End to the first and the last visible one. */
function moveCursor(plot: uPlot, { times }: ChartProps, key: string): boolean {
  const last = times.length - 1;
  const first = Math.max(
    0,
    times.findIndex((t) => t >= (plot.scales.x?.min ?? 0)),
  );
  const left = plot.cursor.left ?? -1;
  const now = left < 0 ? last : plot.posToIdx(left);
  const targets: Readonly<Record<string, number>> = {
    ArrowLeft: left < 0 ? last : Math.max(first, now - 1),
    ArrowRight: Math.min(last, now + 1),
    Home: first,
    End: last,
  };
  const target = targets[key];
  const t = target === undefined ? undefined : times[target];
  if (t !== undefined) plot.setCursor({ left: plot.valToPos(t, 'x'), top: 0 });
  else if (key === 'Escape') plot.setCursor({ left: -10, top: -10 });
  return t !== undefined || key === 'Escape';
}

export function Chart(props: ChartProps) {
  const { title, summary, times, lines, seconds, events } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  useEffect(() => {
    const element = host.current as HTMLDivElement;
    const rebuild = (): void => {
      plot.current?.destroy();
      plot.current = create(element, () => latest.current);
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
  useEffect(
    () => plot.current?.setData(dataOf(latest.current)),
    [times.at(-1), times.length, seconds, events.length, events.at(-1)?.t],
  );
  const onKeyDown = (event: KeyboardEvent): void => {
    if (plot.current !== null && moveCursor(plot.current, latest.current, event.key)) event.preventDefault();
  };
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {lines.map(({ label, color, dash }) => (
            <span key={label}>
              <svg width="18" height="6" aria-hidden="true">
                <line x1="0" y1="3" x2="18" y2="3" class={`stroke-${color}`} stroke-dasharray={dash?.join(' ')} />
              </svg>
              {label}
            </span>
          ))}
        </span>
      </figcaption>
      <div
        ref={host}
        class="plot"
        role="img"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no mouse looks at the values with the arrow keys
        tabIndex={0}
        onKeyDown={onKeyDown}
        aria-label={`${title}, the last ${seconds / 60} min. Now: ${summary}`}
      />
    </figure>
  );
}
