// What the page has received of each worker, node and model, one point a second, so that a row can be opened to show
// its charts. The bound is for all rows together: with many rows, each has fewer points.

/** One row over time: `columns[i]` is the i-th of its values. */
export interface RowSeries {
  readonly times: readonly number[];
  readonly columns: readonly (readonly (number | null)[])[];
}

interface Row {
  readonly times: number[];
  readonly columns: (number | null)[][];
}

/** For all rows together: some 10 MB. */
const maxPoints = 200_000;
/** For one row, however few rows there are. */
const fewestPoints = 60;

const nothing: RowSeries = { times: [], columns: [] };

export class RowHistory {
  readonly #rows = new Map<string, Row>();
  readonly #mostPoints: number;

  /** @param mostPoints of a row */
  constructor(mostPoints: number) {
    this.#mostPoints = mostPoints;
  }

  /** Notes all rows in the second `t`; the last call in a second counts. Rows that are missing are dropped. */
  note(t: number, rows: readonly (readonly [key: string, values: readonly (number | null)[]])[]): void {
    const limit = Math.min(this.#mostPoints, Math.max(fewestPoints, Math.floor(maxPoints / rows.length)));
    const keys = new Set(rows.map(([key]) => key));
    for (const key of this.#rows.keys()) if (!keys.has(key)) this.#rows.delete(key);
    for (const [key, values] of rows) {
      let row = this.#rows.get(key);
      if (row === undefined) {
        row = { times: [], columns: values.map(() => []) };
        this.#rows.set(key, row);
      }
      add(row, t, values, limit);
    }
  }

  of(key: string): RowSeries {
    return this.#rows.get(key) ?? nothing;
  }
}

function add({ times, columns }: Row, t: number, values: readonly (number | null)[], limit: number): void {
  const last = times.at(-1);
  if (last !== undefined && last > t) return;
  const at = last === t ? times.length - 1 : times.length;
  times[at] = t;
  for (const [i, column] of columns.entries()) column[at] = values[i] ?? null;
  const surplus = times.length - limit;
  if (surplus > 0) for (const column of [times, ...columns]) column.splice(0, surplus);
}

/** How fast a total grows, a second, from each point to the next. */
export function growth(times: readonly number[], totals: readonly (number | null)[]): readonly (number | null)[] {
  return totals.map((total, i) => {
    const [before, since] = [totals[i - 1] ?? null, times[i - 1] ?? 0];
    if (total === null || before === null) return null;
    return Math.max(0, total - before) / ((times[i] ?? since) - since);
  });
}
