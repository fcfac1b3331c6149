// Numbers as an operator reads them: few digits, a unit, the same width as a moment ago.

const nothing = '–';

/** 0 to 9999 as it is, then k, M, G with three digits. */
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

/** Lines of cells below each other; the first `texts` columns are aligned to the left. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], texts = 0): readonly string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  return [head, ...rows].map((row) =>
    row.map((cell, i) => (i < texts ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  );
}
