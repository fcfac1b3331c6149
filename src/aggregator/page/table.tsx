// Tables that can be sorted, where what is far from the others is marked: by shade, and by a sign for who sees none.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';

export interface Column<Row> {
  readonly title: string;
  readonly isNumber: boolean;
  /** What is sorted by. */
  value(row: Row): number | string | null;
  show(row: Row): string;
  /** Whether cells far above the others are marked, and how far that is at least. */
  readonly heat?: { readonly above: number };
  /** Whether a cell says that something is wrong. */
  isBad?(row: Row): boolean;
}

export interface TableProps<Row> {
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  keyOf(row: Row): string;
  readonly empty: string;
  /** In a table that is too long to see at once, whose cells are marked is said above it, by this name. */
  nameOf?(row: Row): string;
}

type Order = { readonly column: number; readonly isDescending: boolean } | null;

/** 0: like the others; 1, 2: half as much again, twice as much as the median. */
function heatOf(value: number, median: number, above: number): number {
  if (value < above || value < 1.5 * median) return 0;
  return value < 2 * median ? 1 : 2;
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? 0;
}

function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], order: Order): readonly Row[] {
  const column = order === null ? undefined : columns[order.column];
  if (order === null || column === undefined) return rows;
  const sign = order.isDescending ? -1 : 1;
  return rows.toSorted((a, b) => sign * compare(column.value(a), column.value(b)));
}

function compare(a: number | string | null, b: number | string | null): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? -1 : 1;
  return typeof a === 'string' ? a.localeCompare(String(b)) : a - Number(b);
}

const signs = ['', ' ▴', ' ▲'] as const;

/** From so many rows on, those that are marked are named above the table. */
const longTable = 20;
const maxNamed = 5;

/** Rows that are wrong, or far above the others, with what it is about them; the worst columns first. */
function marked<Row>({ columns, rows, nameOf }: TableProps<Row>, medians: readonly (number | null)[]): string {
  if (nameOf === undefined || rows.length < longTable) return '';
  const found = rows.flatMap((row) => {
    const titles = columns.filter((column, i) => isMarked(column, row, medians[i] ?? null)).map(({ title }) => title);
    return titles.length > 0 ? [`${nameOf(row)} (${titles.join(', ')})`] : [];
  });
  if (found.length === 0) return '';
  const others = found.length - maxNamed;
  return `▲ far from the others: ${found.slice(0, maxNamed).join('; ')}${others > 0 ? ` and ${others} more` : ''}`;
}

function isMarked<Row>(column: Column<Row>, row: Row, median: number | null): boolean {
  if (column.isBad?.(row)) return true;
  return median !== null && heatOf(Number(column.value(row) ?? 0), median, column.heat?.above ?? 0) === 2;
}

export function Table<Row>(props: TableProps<Row>) {
  const { caption, columns, rows, keyOf, empty } = props;
  const [order, setOrder] = useState<Order>(null);
  const medians = columns.map(({ heat, value }) =>
    heat === undefined || rows.length < 2 ? null : medianOf(rows.map((row) => Number(value(row) ?? 0))),
  );
  const sortBy = (column: number): void =>
    setOrder(
      order?.column !== column
        ? { column, isDescending: true }
        : order.isDescending
          ? { column, isDescending: false }
          : null,
    );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no mouse scrolls a wide table with the keyboard
    <section class="table" tabIndex={0} aria-label={caption}>
      <table>
        <caption>
          {caption} <span class="marked">{marked(props, medians)}</span>
        </caption>
        <thead>
          <tr>
            {columns.map(({ title, isNumber }, i) => (
              <th key={title} scope="col" class={isNumber ? 'number' : ''} aria-sort={ariaSort(order, i)}>
                <button type="button" onClick={() => sortBy(i)}>
                  {title}
                  <span aria-hidden="true">{order?.column === i ? (order.isDescending ? ' ↓' : ' ↑') : ''}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted(rows, columns, order).map((row) => (
            <tr key={keyOf(row)}>{columns.map((column, i) => cell(column, row, medians[i] ?? null))}</tr>
          ))}
          {rows.length === 0 && (
            <tr>
              <td colSpan={columns.length}>{empty}</td>
            </tr>
          )}
        </tbody>
      </table>
    </section>
  );
}

function cell<Row>(column: Column<Row>, row: Row, median: number | null): ComponentChildren {
  const value = column.value(row);
  const heat = median === null ? 0 : heatOf(Number(value ?? 0), median, column.heat?.above ?? 0);
  const isBad = column.isBad?.(row) ?? false;
  const kind = column.isNumber ? 'number' : '';
  return (
    <td key={column.title} class={`${kind} ${isBad ? 'bad' : heat > 0 ? `heat-${heat}` : ''}`}>
      {column.show(row)}
      {isBad ? ' ✖' : signs[heat]}
    </td>
  );
}

function ariaSort(order: Order, column: number): 'ascending' | 'descending' | 'none' {
  if (order?.column !== column) return 'none';
  return order.isDescending ? 'descending' : 'ascending';
}
