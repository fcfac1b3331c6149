// A model's plan in words: for the terminal, the log and the page.

import { table } from './format.js';
import type { InputPlan, ModelPlan, OutputPlan, TensorPlan } from './inference/plan.js';

type Dims = TensorPlan['dims'];

/** As `[batch,64]`. */
export const dimsText = (dims: Dims): string => `[${dims.join(',')}]`;

/** How the tensor of a request lies in the tensor of a run; and what is no part of a payload or a reply. */
export function roleText(
  tensor: Pick<TensorPlan, 'batchAxis'> & { isConstant?: boolean; isReturned?: boolean },
): string {
  if (tensor.isConstant === true) return 'constant';
  if (tensor.isReturned === false) return 'not returned';
  return typeof tensor.batchAxis === 'number' ? `axis ${tensor.batchAxis}` : tensor.batchAxis;
}

const maxLabels = 12;
const maxLabelLength = 24;

/**
 * The first of them, and how many there are: a classifier may have thousands.
 * @param isCut whether there may be more than are given
 */
export function labelsText(labels: readonly (string | number)[], isCut = false): string {
  const shown = labels.slice(0, maxLabels).map((label) => cut(oneLine(String(label)), maxLabelLength));
  return `${shown.join(', ')}${labels.length > maxLabels ? `, …${isCut ? '' : ` (${labels.length})`}` : ''}`;
}

/** Names come from model files: they may be long, and hold anything. Names of one model often differ at their ends. */
export function nameText(name: string, length = 40): string {
  const text = oneLine(name);
  const end = Math.floor(length / 3);
  return text.length > length ? `${text.slice(0, length - end - 1)}…${text.slice(-end)}` : text;
}

const maxRows = 20;
const maxName = 40;
const leastName = 12;
const maxDims = 40;
const leastDims = 22;

interface TabledPlan extends Pick<ModelPlan, 'inputs' | 'outputs'> {
  /** How many there are, if that is more. */
  readonly inputCount?: number;
  readonly outputCount?: number;
}

/** A line for each input and output; of a model with very many, the first ones. Names are cut to fit the width. */
export function planTable(
  { inputs, outputs, inputCount = inputs.length, outputCount = outputs.length }: TabledPlan,
  width: number,
): readonly string[] {
  const rows = (dimsLength: number): readonly (readonly string[])[] => [
    ...inputs.slice(0, maxRows).map((input) => rowOf('input', input, dimsLength)),
    ...moreOf(inputCount - Math.min(inputs.length, maxRows), 'input'),
    ...outputs.slice(0, maxRows).map((output) => rowOf('output', output, dimsLength)),
    ...moreOf(outputCount - Math.min(outputs.length, maxRows), 'output'),
  ];
  const lines = (dimsLength: number, nameLength: number): readonly string[] =>
    table(
      titles,
      rows(dimsLength).map(([kind = '', name = '', ...others]) => [kind, nameText(name, nameLength), ...others]),
      titles.length,
    ).map((line) => line.trimEnd());
  const longest = (of: readonly string[]): number => Math.max(0, ...of.map(({ length }) => length));
  const whole = lines(maxDims, maxName);
  if (longest(whole) <= width) return whole;
  const names = longest(rows(leastDims).map(([, name = '']) => nameText(name, maxName)));
  const others = longest(lines(leastDims, maxName)) - names;
  return lines(leastDims, Math.max(leastName, Math.min(names, width - others)));
}

const titles = ['', 'name', 'dtype', 'in the model', 'of a request', 'batch'];

const rowOf = (kind: string, tensor: InputPlan | OutputPlan, dimsLength: number): readonly string[] => [
  kind,
  tensor.name,
  tensor.dtype,
  cut(dimsText(tensor.dims), dimsLength),
  cut(dimsText(tensor.requestDims), dimsLength),
  roleText(tensor),
];

const moreOf = (count: number, kind: string): readonly (readonly string[])[] =>
  count > 0 ? [['', `… ${count} more ${kind}s`, '', '', '', '']] : [];

/** In one line, for logs: each input and output with its batch axis. */
export function planSummary({
  inputs,
  outputs,
  runsAloneBecause,
}: Pick<ModelPlan, 'inputs' | 'outputs' | 'runsAloneBecause'>): string {
  const text = (tensor: InputPlan | OutputPlan): string => {
    const role = roleText(tensor);
    return `${nameText(tensor.name)} ${tensor.dtype}${dimsText(tensor.dims)} ${role === 'none' ? 'no batch' : role}`;
  };
  const takes = inputs.map(text);
  const gives = outputs.filter(({ isReturned }) => isReturned).map(text);
  const alone = runsAloneBecause === null ? '' : '; one request a run';
  return `${cut(`${takes.join(' + ')} → ${gives.join(' + ')}`, maxSummaryLength)}${alone}`;
}

const maxSummaryLength = 400;

export const cut = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;

/** Without characters that would move the cursor or end the line. */
export const oneLine = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();

/** Lines of at most `width` characters, broken at spaces. */
export function wrapped(text: string, width: number, indent = ''): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (indent.length + longer.length > width && line !== '') {
      lines.push(indent + line);
      line = word;
    } else line = longer;
  }
  return [...lines, indent + line];
}
