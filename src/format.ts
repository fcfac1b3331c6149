// Formats numbers for an operator: few digits, a unit, and a width that does not change from moment to moment.

const nothing = '–';

/** 0 to 9999 unchanged, then k, M, G with three digits. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return nothing;
  const rounded = Math.abs(value) < 10 && value % 1 !== 0 ? value.toFixed(1) : String(Math.round(value));
  if (Math.abs(value) < 10_000) return rounded;
  const units = ['k', 'M', 'G', 'T'] as const;
  let scaled = value;
  let unit = '';
  for (const next of units) {
    if (Math.abs(scaled) < 1000) break;
    scaled /= 1000;
    unit = next;
  }
  return `${scaled.toPrecision(3)}${unit}`;
}

/** Milliseconds, as µs, ms or s. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return nothing;
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** Seconds, as the two largest of days, hours, minutes, seconds. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ] as const;
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}

export function bytes(value: number): string {
  return value < 1e9 ? `${Math.round(value / 2 ** 20)} MB` : `${(value / 2 ** 30).toFixed(1)} GB`;
}

export function percent(share: number): string {
  return share > 0 && share < 0.001 ? '<0.1 %' : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function clock(epochSeconds: number): string {
  return new Date(epochSeconds * 1000).toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  });
}

/**
 * Labels for the ticks of an axis, `step` apart: one unit for all, and as many digits as it takes to show each exactly.
 */
export function ticks(values: readonly number[], step: number): readonly string[] {
  const largest = Math.max(0, ...values.map(Math.abs));
  const [, size, unit] = tickUnits.find(([least]) => largest >= least) ?? [0, 1, ''];
  const digits = decimalsOf(step / size);
  return values.map((value) => (value === 0 ? '0' : `${(value / size).toFixed(digits)}${unit}`));
}

/** For each unit: the least value that is written in it, its size, and its name. */
const tickUnits = [
  [1e12, 1e12, 'T'],
  [1e9, 1e9, 'G'],
  [1e6, 1e6, 'M'],
  [1e4, 1e3, 'k'],
] as const;

/** Decimal places that a number needs. */
function decimalsOf(value: number): number {
  for (let digits = 0; digits < 9; digits++) {
    const scaled = value * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * Math.max(1, scaled)) return digits;
  }
  return 9;
}

/** A tick of an axis of milliseconds: as it is, in µs, ms or s. */
export function durationTick(ms: number): string {
  const [scaled, unit] = ms < 1 ? [ms * 1000, 'µs'] : ms < 1000 ? [ms, 'ms'] : [ms / 1000, 's'];
  return `${Number(scaled.toPrecision(6))} ${unit}`;
}

/** Lines of a table; the first `texts` columns are aligned to the left. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], texts = 0): readonly string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  return [head, ...rows].map((row) =>
    row.map((cell, i) => (i < texts ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  );
}
