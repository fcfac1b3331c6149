// A model as clients of tensors see it: the names, datatypes and shapes of what it takes and gives, and how their requests
// become payloads of the model, and its replies their answers.
//
//   InferCall ─▶ payloadsOf(): names, looks, sizes checked ─▶ a payload for each row ─▶ ModelEndpoint ─▶ the model
//   InferTensors ◀─ answerOf(): cut at the outputs, joined along their rows ◀─ a reply for each payload ◀─┘
//
// Most requests look like one before, and decoders give the same specs for those: what was found out about the looks of
// the last few requests is kept.

import { fixedSizes } from '../../inference/backends/run-inputs.js';
import type { ReplyDims } from '../../inference/batch.js';
import { mostRowsOf } from '../../inference/payload.js';
import type { ModelPlan } from '../../inference/plan.js';
import { quoted } from '../../protocol/invalid-message.js';
import type { InferCall, InferTensor, TensorSpec, WantedOutput } from '../../protocol/oip/infer.js';
import type { ReplySpan } from '../../serving/request-group.js';
import { AnswerTensors, isSame, outputsOf, type SignatureOutput, toldBy } from './answers.js';
import { elementsOfReplies, opaqueInput, opaqueOutput, payloadsInElements } from './opaque.js';
import { payloadsIn, type RequestPayloads } from './payloads.js';
import {
  badInput,
  type CheckedShapes,
  type Described,
  inputsOf,
  listOf,
  openRowsOf,
  ShapeCheck,
  type SignatureInput,
  type SignatureTensor,
} from './request-check.js';

export type { ReplyDims, RequestPayloads, SignatureTensor };

export interface SignedModel {
  /** Null: only the model understands its payloads. */
  readonly plan: ModelPlan | null;
  /** Bytes of each payload; null: they differ. */
  readonly inputBytes: number | null;
  /** The most rows that a request may have, each as a payload of its own. */
  readonly mostRows: number;
  /** The most rows of a run, and so of a payload of several. */
  readonly mostRunRows: number;
}

/** What an answer needs to know of its request; the same for requests that look alike. */
export interface AnswerForm {
  /** Which outputs it has, by their index. */
  readonly wanted: readonly number[];
  /** The dimensions of the outputs in a reply, as far as such a request tells them. */
  readonly told: ReplyDims | null;
}

/** How the tensors of a model and its payloads become one another. */
interface Tensors {
  readonly inputs: readonly SignatureTensor[];
  readonly outputs: readonly SignatureTensor[];
  readonly maxBatchSize: number;
  payloadsOf(call: InferCall): RequestPayloads;
  answerFormOf(call: InferCall): AnswerForm;
  answerOf(
    form: AnswerForm,
    replies: readonly ReplySpan[],
    dims: readonly (ReplyDims | null)[] | null,
  ): readonly InferTensor[];
}

export class ModelSignature {
  readonly #tensors: Tensors;

  constructor({ plan, inputBytes, mostRows, mostRunRows }: SignedModel) {
    if (plan === null) this.#tensors = new OpaqueTensors(inputBytes, mostRows);
    else this.#tensors = new PlannedTensors(plan, openRowsOf(plan) === null ? mostRows : mostRowsOf(plan, mostRunRows));
  }

  /** What requests have; -1 is a size that they may choose. */
  get inputs(): readonly SignatureTensor[] {
    return this.#tensors.inputs;
  }

  /** What answers may have; -1 is a size that is not known before. */
  get outputs(): readonly SignatureTensor[] {
    return this.#tensors.outputs;
  }

  /** As Triton means it: how many rows a request may have along the first axis of all tensors; 0: it has no such axis. */
  get maxBatchSize(): number {
    return this.#tensors.maxBatchSize;
  }

  /**
   * The payloads of a request, one for each row, or one if the model's payloads have several. They may be views of the
   * request's memory.
   * @throws CallError BAD_INPUT that says what was expected and what came
   */
  payloadsOf(call: InferCall): RequestPayloads {
    return this.#tensors.payloadsOf(call);
  }

  /** What to answer to a request that `payloadsOf` has taken. */
  answerFormOf(call: InferCall): AnswerForm {
    return this.#tensors.answerFormOf(call);
  }

  /**
   * The outputs that a request wants, in its order, or all. They may be views of the replies.
   * @param form of the request
   * @param replies one for each payload
   * @param dims of the outputs of each reply, where the model has told them; null when it has told none
   * @throws CallError INFERENCE_FAILED when the replies cannot be its answer
   */
  answerOf(
    form: AnswerForm,
    replies: readonly ReplySpan[],
    dims: readonly (ReplyDims | null)[] | null,
  ): readonly InferTensor[] {
    return this.#tensors.answerOf(form, replies, dims);
  }
}

/** What is known of requests that look alike. */
interface Looks extends CheckedShapes {
  readonly specs: readonly TensorSpec[];
  readonly told: ReplyDims | null;
  /** Of the last request. */
  form: AnswerForm;
}

/** The looks of so many requests are kept. */
const mostLooks = 16;

class PlannedTensors implements Tensors {
  readonly inputs: readonly SignatureInput[];
  readonly outputs: readonly SignatureOutput[];
  readonly maxBatchSize: number;
  readonly #check: ShapeCheck;
  readonly #fixedSizes: ReadonlyMap<string, number>;
  readonly #answers: AnswerTensors;
  readonly #wanted: WantedOutputs;
  readonly #looks: Looks[] = [];
  #newest = 0;

  constructor(plan: ModelPlan, mostRows: number) {
    this.inputs = inputsOf(plan);
    this.outputs = outputsOf(plan);
    this.maxBatchSize = areBatches(plan) ? mostRows : 0;
    this.#check = new ShapeCheck(plan, this.inputs, mostRows);
    this.#fixedSizes = fixedSizes(plan);
    this.#answers = new AnswerTensors(this.outputs);
    this.#wanted = new WantedOutputs(this.outputs);
  }

  payloadsOf({ inputs, outputs }: InferCall): RequestPayloads {
    const looks = this.#looksOf(inputs);
    const wanted = this.#wanted.of(outputs);
    if (looks.payloads > 1) this.#checkRows(wanted, looks.payloads);
    return payloadsIn(this.inputs, inputs, looks);
  }

  answerFormOf({ inputs, outputs }: InferCall): AnswerForm {
    const looks = this.#looksOf(inputs);
    const wanted = this.#wanted.of(outputs);
    if (looks.form.wanted !== wanted) looks.form = { wanted, told: looks.told };
    return looks.form;
  }

  answerOf(
    { wanted, told }: AnswerForm,
    replies: readonly ReplySpan[],
    dims: readonly (ReplyDims | null)[] | null,
  ): readonly InferTensor[] {
    return this.#answers.of(wanted, replies, dims, told);
  }

  #checkRows(wanted: readonly number[], rows: number): void {
    for (const k of wanted) {
      const { name, isAlone } = this.outputs[k] as SignatureOutput;
      if (isAlone)
        throw badInput(
          `output ${quoted(name)} has no axis for rows, and the request has ${rows} of them: send each in a request of its own`,
        );
    }
  }

  #looksOf(sent: readonly Described[]): Looks {
    const looks = this.#looks;
    const newest = looks[this.#newest];
    if (newest !== undefined && looksLike(newest, sent)) return newest;
    for (let i = 0; i < looks.length; i++)
      if (looksLike(looks[i] as Looks, sent)) {
        this.#newest = i;
        return looks[i] as Looks;
      }
    const checked = this.#check.check(sent);
    const told = toldBy(this.outputs, checked, this.#fixedSizes);
    const found: Looks = { ...checked, specs: sent.map(({ spec }) => spec), told, form: { wanted: [], told } };
    this.#newest = looks.length < mostLooks ? looks.length : (this.#newest + 1) % mostLooks;
    looks[this.#newest] = found;
    return found;
  }
}

function looksLike({ specs }: Looks, sent: readonly Described[]): boolean {
  if (specs.length !== sent.length) return false;
  for (let i = 0; i < specs.length; i++) {
    const known = specs[i] as TensorSpec;
    const { spec } = sent[i] as Described;
    if (spec === known) continue;
    if (spec.name !== known.name || spec.datatype !== known.datatype || !isSame(spec.shape, known.shape)) return false;
  }
  return true;
}

/**
 * Whether the first axis of all tensors is the rows of a request, and inputs have others beside it: in the configuration of
 * a model the rows are left out, and perf_analyzer cannot ask with an input that has no dimension then.
 */
function areBatches({ inputs, outputs, runsAloneBecause }: ModelPlan): boolean {
  const sent = inputs.filter(({ isConstant }) => !isConstant);
  const returned = outputs.filter(({ isReturned }) => isReturned);
  const areRows = [...sent, ...returned].every(({ batchAxis }) => batchAxis === 0);
  return runsAloneBecause === null && areRows && sent.every(({ requestDims }) => requestDims.length > 1);
}

/** Finds outputs by the names that requests want. */
class WantedOutputs {
  readonly #outputs: readonly SignatureTensor[];
  readonly #all: readonly number[];
  /** Decoders give the same list again when it has not changed. */
  #last: readonly WantedOutput[] | null = null;
  #found: readonly number[] = [];

  constructor(outputs: readonly SignatureTensor[]) {
    this.#outputs = outputs;
    this.#all = [...outputs.keys()];
  }

  /** Throws CallError BAD_INPUT when there is no such output. */
  of(wanted: readonly WantedOutput[]): readonly number[] {
    if (wanted.length === 0) return this.#all;
    if (wanted === this.#last) return this.#found;
    const found = wanted.map(({ name }) => {
      const index = this.#outputs.findIndex((output) => output.name === name);
      if (index < 0) throw badInput(`there is no output ${quoted(name)}: the model gives ${listOf(this.#outputs)}`);
      return index;
    });
    this.#last = wanted;
    this.#found = found;
    return found;
  }
}

const opaqueForm: AnswerForm = { wanted: [0], told: null };

class OpaqueTensors implements Tensors {
  readonly inputs = [opaqueInput];
  readonly outputs = [opaqueOutput];
  readonly maxBatchSize = 0;
  readonly #inputBytes: number | null;
  readonly #mostRows: number;
  readonly #wanted = new WantedOutputs(this.outputs);

  constructor(inputBytes: number | null, mostRows: number) {
    this.#inputBytes = inputBytes;
    this.#mostRows = mostRows;
  }

  payloadsOf({ inputs, outputs }: InferCall): RequestPayloads {
    const payload = inputs.find(({ spec }) => spec.name === opaqueInput.name);
    this.#wanted.of(outputs);
    if (payload === undefined || inputs.length > 1)
      throw badInput(
        `the request should have the one input ${listOf(this.inputs)}, and has ${inputs.length === 0 ? 'none' : listOf(inputs.map(({ spec }) => spec))}`,
      );
    return payloadsInElements(payload, this.#inputBytes, this.#mostRows);
  }

  answerFormOf(): AnswerForm {
    return opaqueForm;
  }

  answerOf(_form: AnswerForm, replies: readonly ReplySpan[]): readonly InferTensor[] {
    return [elementsOfReplies(replies)];
  }
}
