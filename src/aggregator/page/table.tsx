// Sortable tables that mark outliers: by shade, and by a sign for those who cannot see the shade.

import { type ComponentChildren, Fragment } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

export interface Column<Row> {
  readonly title: string;
  readonly isNumber: boolean;
  /** The value to sort by. */
  value(row: Row): number | string | null;
  show(row: Row): string;
  /** Whether cells far above the others are marked, and the least value that is. */
  readonly heat?: { readonly above: number };
  /** Whether the cell shows a problem. */
  isBad?(row: Row): boolean;
  /** Whether its text may take several lines. */
  readonly isLong?: boolean;
}

export interface TableProps<Row> {
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  keyOf(row: Row): string;
  readonly empty: string;
  /** Above a table that is too long to see at once, marked rows are listed by this name. */
  nameOf(row: Row): string;
  /** What an open row shows; without it, rows do not open. */
  detail?(row: Row): ComponentChildren;
}

/** How much of the table lies beyond each edge. */
type Beyond = '' | 'more-left' | 'more-right' | 'more-left more-right';

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

/** From this many rows on, marked rows are listed above the table. */
const longTable = 20;
const maxNamed = 5;

/** Rows with a problem or far above the others, and why; the worst columns first. */
function marked<Row>({ columns, rows, nameOf }: TableProps<Row>, medians: readonly (number | null)[]): string {
  if (rows.length < longTable) return '';
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
  const { caption, columns, rows, keyOf, empty, nameOf, detail } = props;
  const [order, setOrder] = useState<Order>(null);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const { host, beyond } = useBeyond();
  const toggle = (key: string): void =>
    setOpened((before) => new Set(before.has(key) ? [...before].filter((other) => other !== key) : [...before, key]));
  const known = useRef<ReadonlyMap<string, readonly Cell[]>>(new Map());
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
  const drawn = new Map<string, readonly Cell[]>();
  const body = sorted(rows, columns, order).map((row) => {
    const key = keyOf(row);
    const isOpen = opened.has(key);
    const opener = { name: nameOf(row), isOpen, toggle: () => toggle(key) };
    const before = known.current.get(key);
    const cells = columns.map((column, i) =>
      cellOf(column, row, medians[i] ?? null, i === 0 && detail !== undefined ? opener : null, before?.[i]),
    );
    drawn.set(key, cells);
    return (
      <Fragment key={key}>
        <tr>{cells.map(({ element }) => element)}</tr>
        {isOpen && detail !== undefined && (
          <tr class="detail">
            <td colSpan={columns.length}>
              <div>{detail(row)}</div>
            </td>
          </tr>
        )}
      </Fragment>
    );
  });
  known.current = drawn;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no mouse scrolls a wide table with the keyboard
    <section ref={host} class={`table ${beyond}`} tabIndex={0} aria-label={caption}>
      <table>
        <caption>
          <div>
            {caption}
            {beyond !== '' && <span class="scrolls"> scroll for more {beyond.includes('right') ? '→' : '←'}</span>}{' '}
            <span class="marked">{marked(props, medians)}</span>
          </div>
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
          {body}
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

interface Opener {
  readonly name: string;
  readonly isOpen: boolean;
  toggle(): void;
}

/** Watches how far a table can be scrolled sideways. */
function useBeyond() {
  const host = useRef<HTMLElement>(null);
  const [beyond, setBeyond] = useState<Beyond>('');
  useEffect(() => {
    const element = host.current as HTMLElement;
    const look = (): void => {
      const { scrollLeft, scrollWidth, clientWidth } = element;
      const [left, right] = [scrollLeft > 1, scrollLeft + clientWidth < scrollWidth - 1];
      setBeyond(left && right ? 'more-left more-right' : left ? 'more-left' : right ? 'more-right' : '');
    };
    look();
    element.addEventListener('scroll', look, { passive: true });
    const resized = new ResizeObserver(() => {
      // An open row is as wide as the visible part of the table.
      element.style.setProperty('--seen-width', `${element.clientWidth}px`);
      look();
    });
    for (const watched of [element, ...element.children]) resized.observe(watched);
    return () => {
      element.removeEventListener('scroll', look);
      resized.disconnect();
    };
  }, []);
  return { host, beyond };
}

/** A cell as it was drawn, and the values that it was drawn from. */
interface Cell {
  readonly id: string;
  readonly element: ComponentChildren;
}

/** A cell that looks as before is the same object, which costs almost nothing to draw again. */
function cellOf<Row>(
  column: Column<Row>,
  row: Row,
  median: number | null,
  opener: Opener | null,
  before: Cell | undefined,
): Cell {
  const heat = median === null ? 0 : heatOf(Number(column.value(row) ?? 0), median, column.heat?.above ?? 0);
  const isBad = column.isBad?.(row) ?? false;
  const kind = `${column.isNumber ? 'number' : column.isLong ? 'long' : ''} ${isBad ? 'bad' : heat > 0 ? `heat-${heat}` : ''}`;
  const text = `${column.show(row)}${isBad ? ' ✖' : signs[heat]}`;
  const id = `${kind} ${opener?.isOpen} ${text}`;
  if (before?.id === id) return before;
  const element = (
    <td key={column.title} class={kind}>
      {opener !== null && (
        <button
          type="button"
          class="opener"
          aria-expanded={opener.isOpen}
          aria-label={`Charts of ${opener.name}`}
          onClick={opener.toggle}
        >
          {opener.isOpen ? '▾' : '▸'}
        </button>
      )}
      {text}
    </td>
  );
  return { id, element };
}

function ariaSort(order: Order, column: number): 'ascending' | 'descending' | 'none' {
  if (order?.column !== column) return 'none';
  return order.isDescending ? 'descending' : 'ascending';
}
