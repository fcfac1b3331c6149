// What is to be told of a model, for people: lines of at most 100 characters.

import { count, duration, bytes as inMegabytes, table } from '../../format.js';
import type { InputPlan } from '../../inference/plan.js';
import { cut, labelsText, nameText, oneLine, planTable, wrapped } from '../../plan-text.js';
import {
  type BytesReport,
  type FailedReport,
  type InspectedModel,
  type ModelReport,
  type PartReport,
  sharedOf,
} from './report.js';

const width = 100;
const maxParts = 20;

export function formatInspected(models: readonly InspectedModel[]): string {
  return models.map((model) => ('error' in model ? formatFailed(model) : formatModel(model)).join('\n')).join('\n\n\n');
}

function formatFailed({ name, error }: FailedReport): readonly string[] {
  return [name, '', ...error.message.split('\n').flatMap((line) => wrapped(line, width))];
}

function formatModel(model: ModelReport): readonly string[] {
  const sections = [
    head(model),
    model.plan === null ? paragraph(unknownPlan(model)) : planTable(model.plan, width),
    labels(model),
    paragraph(sharing(model)),
    payload(model),
    reply(model),
    batching(model),
    chosen(model),
    paragraph(execution(model)),
    paragraph(memory(model)),
    (model.plan?.notes ?? []).flatMap((note) => paragraph(`Note: ${note}`)),
    config(model),
    advice(model),
  ];
  return sections.filter((lines) => lines.length > 0).flatMap((lines, i) => (i === 0 ? lines : ['', ...lines]));
}

const paragraph = (text: string): readonly string[] => wrapped(oneLine(text), width);

function head({ name, backend, path, version }: ModelReport): readonly string[] {
  if (backend === 'dummy') return [name];
  return [`${name}: ${backend} ${path}${version === 'unversioned' ? '' : `, version ${version}`}`];
}

function labels({ plan }: ModelReport): readonly string[] {
  return (plan?.outputs ?? []).flatMap(({ name, labels: found }) =>
    found === null ? [] : paragraph(`Labels of ${nameText(name)}, in order: ${labelsText(found)}.`),
  );
}

function unknownPlan({ signature, backend }: ModelReport): string {
  if (backend === 'dummy') return signature;
  return 'A payload is any bytes: what they mean, and what a reply is, only the module knows.';
}

function sharing({ runsAloneBecause, maxRows, plan, backend }: ModelReport): string {
  if (runsAloneBecause !== null) return `Each request gets a run of its own: ${runsAloneBecause}.`;
  const fixed = plan?.fixedBatch ?? null;
  if (fixed === 1) return `The file has a batch of 1: requests run one after another, up to ${maxRows} in a call.`;
  if (fixed !== null)
    return `The file has a batch of ${fixed}: so many requests share a run, and with fewer it takes as long.`;
  const proven = backend === 'onnx' ? '; each gets the answer that it gets alone' : '';
  const same = [...equalDims(plan?.inputs ?? []), ...sharedOf(plan)].map((name) => nameText(name));
  const where = same.length === 0 ? '' : ` where they have the same ${same.join(' and ')}`;
  const shared = maxRows === 1 ? 'Requests may' : `Up to ${maxRows} requests`;
  return `${shared} share a run${where}${proven}.`;
}

/** Dynamic dimensions that requests must have in common to share a run: those along the batch axis they need not. */
const equalDims = (inputs: readonly InputPlan[]): readonly string[] => [
  ...new Set(
    inputs.flatMap(({ requestDims, batchAxis, isConstant }) =>
      isConstant ? [] : requestDims.filter((dim, axis) => typeof dim === 'string' && axis !== batchAxis),
    ) as string[],
  ),
];

function payload(model: ModelReport): readonly string[] {
  const { payload, plan } = model;
  if (plan === null || payload.parts === null) return exampleOfUnknown(payload);
  const tells =
    payload.dynamic.length === 1
      ? paragraph(`Its length tells ${payload.dynamic[0]}.`)
      : payload.dynamic.length > 1
        ? paragraph(`Its length cannot tell ${payload.dynamic.join(' and ')}.`)
        : [];
  return [
    ...bytesSection('A payload', payload),
    ...tells,
    ...example(payload),
    ...(payload.parts.some(({ dtype }) => dtype === 'string') ? stringsAre : []),
  ];
}

const stringsAre = paragraph(
  'Each string is its number of bytes, as a u32 (little-endian), and that many bytes of UTF-8 without a NUL.',
);

function exampleOfUnknown({ example: given }: BytesReport): readonly string[] {
  return given === null ? [] : [`Its sample has ${bytes(given.bytes)}.`];
}

function example({ example: given, bytes: fixed, parts }: BytesReport): readonly string[] {
  if (given === null || fixed !== null) return [];
  const sizes = Object.entries(given.sizes ?? {}).map(([name, size]) => `${name} ${size}`);
  const each = (parts ?? []).flatMap(({ name }, i) => {
    const of = given.parts[i];
    return of === null || of === undefined || given.parts.length < 2 || i >= maxParts
      ? []
      : [`${nameText(name)} ${of}`];
  });
  const text = `Example: ${bytes(given.bytes)}${sizes.length > 0 ? `, where ${sizes.join(', ')}` : ''}`;
  return paragraph(`${text}${each.length > 0 ? ` (${each.join(', ')})` : ''}.`);
}

function reply(model: ModelReport): readonly string[] {
  const { reply, plan } = model;
  if (plan === null || reply.parts === null)
    return reply.example === null ? [] : [`Its reply has ${bytes(reply.example.bytes)}.`];
  return [
    ...bytesSection('A reply', reply),
    ...(reply.parts.some(({ dtype }) => dtype === 'string') ? stringsAre : []),
  ];
}

function bytesSection(what: string, { bytes: fixed, formula, parts }: BytesReport): readonly string[] {
  const all = parts ?? [];
  const rows = all.slice(0, maxParts).map(partRow);
  const more = all.length > maxParts ? [`  … and ${all.length - maxParts} more`] : [];
  const size = fixed === null ? cut(`${formula} bytes`, 70) : bytes(fixed);
  return [
    `${what} has ${size}${all.length > 1 ? ', in this order' : ''}, little-endian:`,
    ...table(['', '', ''], rows, 3)
      .slice(1)
      .map((line) => `  ${line.trimEnd()}`),
    ...more,
  ];
}

const partRow = ({ name, dtype, dims, formula }: PartReport): readonly string[] => [
  nameText(name),
  `${dtype} [${dims.join(',')}]`,
  `${formula}${formula.includes('strings') ? '' : ' bytes'}`,
];

function batching({ batching: speeds, plan }: ModelReport): readonly string[] {
  const [one] = speeds;
  if (one === undefined) return [];
  const rows = speeds.map(({ rows, p50Ms, rowsPerSecond }) => [
    String(rows),
    duration(p50Ms),
    count(rowsPerSecond),
    rows === 1 ? '' : `× ${(rowsPerSecond / one.rowsPerSecond).toFixed(1)}`,
  ]);
  const what = plan === null ? 'requests' : 'rows';
  return table([`${what} a run`, 'p50 of a run', `${what}/s`, 'gain'], rows).map((line) => line.trimEnd());
}

/** What decides how many requests share a run, where neither config nor the model says it. */
function chosen({ batchSize: { because, setting }, maxRows, runsAloneBecause }: ModelReport): readonly string[] {
  if (runsAloneBecause !== null || because === 'maxBatchSize') return [];
  return paragraph(
    `A run has ${maxRows === 1 ? '1 request' : `up to ${maxRows} requests`} with maxBatchSize ${setting}: ${because}.`,
  );
}

function execution({ execution: { where, threads, setting, inlineLimitMs, fullMs, fullRows } }: ModelReport): string {
  const place =
    where === 'inline'
      ? 'It would run inline, on the event loop of each worker'
      : `It would run in ${threads === 1 ? 'a thread' : `${threads} threads`} of each worker`;
  const measured =
    fullMs === null ? null : `${fullRows === 1 ? 'a run' : `a run of ${fullRows}`} took ${duration(fullMs)}`;
  if (setting !== 'auto')
    return `${place}, as execution says${measured === null ? '' : `; ${measured} when it was loaded`}.`;
  if (measured === null) return `${place}: there is no sample to measure it with.`;
  const compared = where === 'inline' ? 'not more' : 'more';
  return `${place}: ${measured} when it was loaded, ${compared} than inlineLimitMs (${inlineLimitMs}).`;
}

function memory({ memoryBytes, backend }: ModelReport): string {
  const runtime = backend === 'onnx' ? ', ONNX Runtime included' : '';
  return `It took ${inMegabytes(memoryBytes)} of memory to load, and would in each worker${runtime}.`;
}

/** What to put into config, where it does not have this model yet. */
function config({ entry, name, isInConfig }: ModelReport): readonly string[] {
  if (isInConfig) return [];
  return [
    'Config that serves it:',
    `  { "models": [${json(entry)}],`,
    `    "server": { "model": ${JSON.stringify(name)} } }`,
  ];
}

function advice({ advice: found }: ModelReport): readonly string[] {
  if (found.length === 0) return [];
  const lines = found.flatMap(({ set, because }) =>
    wrapped(`${json(set).replace(/^\{ | \}$/g, '')}: ${oneLine(because)}.`, width, '  '),
  );
  return ['Settings of the model that would change something:', ...lines];
}

const json = (value: unknown): string => JSON.stringify(value, null, 1).replace(/\s*\n\s*/g, ' ');

const bytes = (value: number): string => (value === 1 ? '1 byte' : `${value.toLocaleString('en')} bytes`);
