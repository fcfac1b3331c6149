// The replies in what a run has answered. A run that requests share must answer as the plan says, since otherwise
// clients could get each other's replies; the answer to a request alone is its own, whatever its shape.

import { partOf, resized, type Tensor } from '../../tensors/axis.js';
import { encodeStrings } from '../../tensors/strings.js';
import type { Replies, ReplyDims } from '../batch.js';
import type { PadSettings } from '../overrides.js';
import type { ModelPlan, OutputPlan } from '../plan.js';
import { fixedSizes, isShared, type Request, type Run } from './run-inputs.js';

export type NamedTensor = Tensor & { readonly name: string };

/** How many shapes are remembered with those of their outputs. */
const mostShapes = 1024;

export class RunOutputs {
  readonly #outputs: readonly OutputPlan[];
  readonly #isAlone: boolean;
  readonly #open: string | null;
  readonly #pad: PadSettings | null;
  /** Sizes that dimensions have in every request, by name. */
  readonly #sizes: ReadonlyMap<string, number>;
  /** Whether the plan and the shape of a request tell the dimensions of its outputs. */
  readonly #areTold: boolean;
  /** The dimensions that outputs had for a shape and the shared inputs, where the plan does not tell them. */
  readonly #seen = new Map<string, readonly string[]>();

  /** @param open the dimension whose size a payload tells, if there is one */
  constructor(plan: ModelPlan, open: string | null, pad: PadSettings | null) {
    this.#outputs = plan.outputs.filter(({ isReturned }) => isReturned);
    this.#isAlone = plan.runsAloneBecause !== null;
    this.#open = open;
    this.#pad = pad;
    this.#sizes = fixedSizes(plan);
    const isTold = (dim: number | string): boolean => typeof dim === 'number' || dim === open || this.#sizes.has(dim);
    this.#areTold = !this.#isAlone && this.#outputs.every(({ requestDims }) => requestDims.every(isTold));
  }

  /** A reply to each request of the run. Throws Error when the model has not answered as the plan says. */
  repliesOf(answers: readonly NamedTensor[], run: Run): Replies {
    for (const [k, { name, dtype }] of this.#outputs.entries())
      if (answers[k]?.name !== name || answers[k].dtype !== dtype)
        throw new Error(`the model answered with ${answers[k]?.name} ${answers[k]?.dtype}, not ${name} ${dtype}`);
    const isAsPlanned = this.#isAlone || this.#check(answers, run);
    const areTold = this.#areTold && isAsPlanned;
    const uniform = this.#uniform(answers, run, areTold);
    if (uniform !== null) return uniform;
    const rows = this.#rows(answers, run);
    return areTold ? { kind: 'rows', rows } : { kind: 'rows', rows, dims: this.#dimsOf(answers, run) };
  }

  /** Whether the answers have the dimensions that the plan tells; in a shared run they must. */
  #check(answers: readonly NamedTensor[], run: Run): boolean {
    const untold: string[] = [];
    let isAsPlanned = true;
    for (const [k, output] of this.#outputs.entries()) {
      const { dims, name } = answers[k] as NamedTensor;
      const wanted = this.#wantedDims(output, run);
      const isWanted = dims.length === wanted.length && wanted.every((size, i) => size === null || size === dims[i]);
      if (!isWanted) isAsPlanned = false;
      if (isShared(run) && !isWanted)
        throw new Error(
          `the output ${name} has the shape [${dims}] in a run of ${run.rows} rows, not [${wanted.map((size, i) => size ?? output.dims[i])}]: what belongs to which request is not known`,
        );
      if (isShared(run) && output.batchAxis === 'none') throw new Error(`the output ${name} has no batch axis`);
      untold.push(dims.filter((_, i) => wanted[i] === null).join());
    }
    if (untold.some((sizes) => sizes !== '')) this.#checkUntold(untold, run);
    return isAsPlanned;
  }

  /** The dimensions that an output must have; null where the plan does not tell. */
  #wantedDims({ name, requestDims, batchAxis }: OutputPlan, run: Run): readonly (number | null)[] {
    return requestDims.map((dim, i) => {
      if (i === batchAxis) return run.rows;
      if (i === this.#pad?.outputs[name]) return run.size;
      if (typeof dim === 'number') return dim;
      return dim === this.#open ? run.size : (this.#sizes.get(dim) ?? null);
    });
  }

  /** Dimensions that only outputs have depend on what the requests of a run have in common: else none would share it. */
  #checkUntold(untold: readonly string[], run: Run): void {
    const common = `${run.size}${run.shared}`;
    const seen = this.#seen.get(common);
    if (seen === undefined) {
      if (this.#seen.size >= mostShapes) this.#seen.clear();
      this.#seen.set(common, untold);
    } else if (isShared(run) && String(seen) !== String(untold)) {
      const k = untold.findIndex((sizes, i) => sizes !== seen[i]);
      throw new Error(
        `the output ${this.#outputs[k]?.name} has other dimensions (${untold[k]}) than in an earlier run of the same shape (${seen[k]})`,
      );
    }
  }

  /** The replies as they lie in the only output, when its batch comes first and all have one size. */
  #uniform(answers: readonly NamedTensor[], run: Run, areTold: boolean): Replies | null {
    const [output] = this.#outputs;
    const [answer] = answers;
    const [request] = run.requests;
    if (answers.length !== 1 || answer === undefined || answer.dtype === 'string' || request === undefined) return null;
    if (!isShared(run)) {
      const { data, dims } = answer;
      const replies = { kind: 'uniform', bytes: data, rowBytes: data.length, stride: data.length } as const;
      return areTold ? replies : { ...replies, dims: [dims] };
    }
    if (output?.batchAxis !== 0 || run.isPadded || run.requests.some(({ rows }) => rows !== request.rows)) return null;
    const rowBytes = (answer.data.length / run.rows) * request.rows;
    const bytes = answer.data.subarray(0, rowBytes * run.requests.length);
    const replies = { kind: 'uniform', bytes, rowBytes, stride: rowBytes } as const;
    return areTold ? replies : { ...replies, dims: [resized(answer.dims, 0, request.rows)] };
  }

  #rows(answers: readonly NamedTensor[], run: Run): readonly Uint8Array[] {
    const parts = answers.map((answer, k) => this.#partsOf(this.#outputs[k] as OutputPlan, answer, run));
    const [only] = parts;
    if (parts.length === 1 && only !== undefined) return only;
    return run.requests.map((_, i) => Buffer.concat(parts.map((part) => part[i] as Uint8Array)));
  }

  /** The dimensions of the outputs that each request gets; one object for those that look alike. */
  #dimsOf(answers: readonly NamedTensor[], run: Run): readonly ReplyDims[] {
    let last: { readonly request: Request; readonly dims: ReplyDims } | null = null;
    return run.requests.map((request) => {
      const { rows, size } = request;
      if (last !== null && last.request.rows === rows && last.request.size === size) return last.dims;
      const dims = answers.map(({ dims }, k) => this.#requestDims(this.#outputs[k] as OutputPlan, dims, request, run));
      last = { request, dims };
      return dims;
    });
  }

  /** Those of one request, in an output of the run. */
  #requestDims({ name, batchAxis }: OutputPlan, dims: readonly number[], { rows, size }: Request, run: Run) {
    if (!isShared(run) || typeof batchAxis !== 'number') return dims;
    const cutAxis = run.isPadded ? this.#pad?.outputs[name] : undefined;
    const own = resized(dims, batchAxis, rows);
    return cutAxis === undefined ? own : resized(own, cutAxis, size);
  }

  /** The bytes that each request gets of an output. */
  #partsOf(output: OutputPlan, answer: Tensor, run: Run): readonly Uint8Array[] {
    const { batchAxis } = output;
    if (!isShared(run) || typeof batchAxis !== 'number') {
      const bytes = bytesOf(answer);
      return run.requests.map(() => bytes);
    }
    const origin = new Array<number>(answer.dims.length).fill(0);
    return run.requests.map((request) => {
      const part = partOf(answer, this.#requestDims(output, answer.dims, request, run), origin);
      origin[batchAxis] = (origin[batchAxis] as number) + request.rows;
      return bytesOf(part);
    });
  }
}

const bytesOf = (tensor: Tensor): Uint8Array => (tensor.dtype === 'string' ? encodeStrings(tensor.data) : tensor.data);
