// Runs a model before it serves, so that its first request is no slower than the others, and measures what runs of 1, 2,
// 4 … rows take. It goes on as long as that may matter: not beyond what a run may take, a share of a second in all, or
// more memory than batches may; and not when two doublings in turn have gained little, since one may by chance.

import { quickMs, worthIt } from './auto-batch-size.js';
import type { RowSource } from './batch.js';
import type { CostPoint } from './batch-cost.js';
import type { Model } from './model.js';

export interface CurveLimits {
  readonly mostRows: number;
  /** What a run of several rows may take. */
  readonly longestMs: number;
  /** How far the memory of this process may grow by larger runs. */
  readonly memoryBytes: number;
}

export interface WarmUp {
  /** What runs took, from the one of the fewest rows on; never empty. */
  readonly curve: readonly [CostPoint, ...CostPoint[]];
  /** The most rows whose runs take no more memory than they may; null: of all sizes that are tried. */
  readonly rowsWithinMemory: number | null;
}

/** In all, apart from the first run: nobody notices that at a start. */
export const budgetMs = 200;
/** How often each size is run, where there is time: the quickest counts, since other processes use the machine too. */
const passes = 4;

interface Measured {
  readonly rows: number;
  ms: number;
}

/**
 * Resolves to null when there is nothing to run the model with: rows of any size, and no sample. Rejects with the
 * model's own error.
 */
export async function warmUp(
  model: Pick<Model, 'sample' | 'inputBytes' | 'fixedRows' | 'runsAloneBecause' | 'run'>,
  limits: CurveLimits,
  memory: () => number = residentBytes,
): Promise<WarmUp | null> {
  const payload = model.sample ?? (model.inputBytes === null ? null : Buffer.alloc(model.inputBytes));
  if (payload === null) return null;
  const curve = new Curve(model, payload, limits, memory);
  await curve.begin();
  for (let pass = 1; pass < passes && (await curve.repeat()); pass++) await curve.extend();
  return curve.result();
}

class Curve {
  readonly #model: Pick<Model, 'fixedRows' | 'run'>;
  readonly #payload: Buffer;
  readonly #mostRows: number;
  readonly #limits: CurveLimits;
  readonly #memory: () => number;
  readonly #points: Measured[] = [];
  #until = 0;
  /** Bytes before the second size, and by how much runs of the next ones have made that grow. */
  #before = 0;
  #grown = 0;
  #lastGrowth = 0;
  #isMemoryUsed = false;

  constructor(
    model: Pick<Model, 'fixedRows' | 'runsAloneBecause' | 'run'>,
    payload: Buffer,
    limits: CurveLimits,
    memory: () => number,
  ) {
    this.#model = model;
    this.#payload = payload;
    this.#mostRows = model.runsAloneBecause === null ? limits.mostRows : 1;
    this.#limits = limits;
    this.#memory = memory;
  }

  async begin(): Promise<void> {
    // A fixed batch takes as long for one row as for all that it has.
    const rows = Math.min(this.#model.fixedRows ?? 1, this.#mostRows);
    const ms = await this.#run(rows);
    this.#points.push({ rows, ms });
    this.#until = performance.now() + budgetMs - ms;
    this.#before = this.#memory();
    await this.extend();
  }

  /** Runs twice the rows of the largest size, and twice those …, as long as that may matter. */
  async extend(): Promise<void> {
    for (let last = this.#last; last.rows < this.#mostRows; last = this.#last) {
      const rows = Math.min(2 * last.rows, this.#mostRows);
      if (this.#isMemoryUsed || !this.#isWorth((last.ms * rows) / last.rows)) return;
      // The next doubling takes twice as much memory as the last one.
      this.#isMemoryUsed = this.#grown + 2 * this.#lastGrowth > this.#limits.memoryBytes;
      if (this.#isMemoryUsed) return;
      const ms = await this.#run(rows);
      const grown = Math.max(this.#grown, this.#memory() - this.#before);
      this.#isMemoryUsed = grown > this.#limits.memoryBytes;
      if (this.#isMemoryUsed) return;
      this.#lastGrowth = grown - this.#grown;
      this.#grown = grown;
      this.#points.push({ rows, ms });
    }
  }

  /** Runs each size once more; resolves to whether there was time for it. */
  async repeat(): Promise<boolean> {
    const expectedMs = this.#points.reduce((sum, { ms }) => sum + ms, 0);
    if (performance.now() + expectedMs > this.#until) return false;
    for (const point of this.#points) point.ms = Math.min(point.ms, await this.#run(point.rows));
    return true;
  }

  result(): WarmUp {
    const { rows } = this.#last;
    const { memoryBytes } = this.#limits;
    // While serving, larger runs may be tried: they take as much for each row as those that were measured.
    const most = this.#isMemoryUsed || this.#grown === 0 ? rows : Math.floor((memoryBytes * rows) / this.#grown);
    const isBound = this.#isMemoryUsed || (this.#grown > 0 && most < this.#mostRows);
    return { curve: this.#points as [Measured, ...Measured[]], rowsWithinMemory: isBound ? most : null };
  }

  get #last(): Measured {
    return this.#points.at(-1) as Measured;
  }

  /** Whether to run a larger size, which is expected to take so long at the most. */
  #isWorth(expectedMs: number): boolean {
    if (this.#last.ms > this.#limits.longestMs || performance.now() + expectedMs > this.#until) return false;
    if (expectedMs <= quickMs) return true;
    if (this.#model.fixedRows !== null) return false;
    const [a, b, c] = this.#points.slice(-3) as [Measured, Measured?, Measured?];
    return b === undefined || c === undefined || gain(a, b) >= worthIt || gain(b, c) >= worthIt;
  }

  async #run(rows: number): Promise<number> {
    const startedAt = performance.now();
    await this.#model.run(repeated(this.#payload, rows));
    return performance.now() - startedAt;
  }
}

/** How many times the rows a second of `a` are those of `b`. */
const gain = (a: Measured, b: Measured): number => (b.rows * a.ms) / (b.ms * a.rows);

/** Bytes of memory that this process has; 0: not known, as it has no descriptor left to ask with. */
function residentBytes(): number {
  try {
    return process.memoryUsage.rss();
  } catch {
    return 0;
  }
}

function repeated(payload: Buffer, rows: number): RowSource {
  return {
    rows,
    payload: () => payload,
    copyRow: (_, target, at, from, length) => payload.copy(target, at, from, from + length),
  };
}
