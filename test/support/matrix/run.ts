// The whole matrix, for scripts/matrix.mjs: a server for each model, so that one that is refused keeps none from running.

import { becauseAlone } from '#src/inference/batch-limits.js';
import { endProcesses } from '../processes.js';
import { answersOfNode, answersOfPython, type Case, ownCases, teamCase, wheelCase } from './cases.js';
import { differenceOf } from './compare.js';
import { Python, teamModels, whyNoPython } from './python.js';
import { ask, type Cost, MatrixServer, type Served } from './serve.js';
import { bytesOf } from './tensors.js';
import { isThere, wheelModels } from './wheel-models.js';

export interface Options {
  readonly pattern: string | undefined;
  /** Another checkout to compare with. */
  readonly before: string | undefined;
  readonly isJson: boolean;
}

/** How a model fares. */
interface Row {
  readonly model: string;
  readonly plan: string;
  readonly config: string;
  readonly served: string;
  /** In the other checkout. */
  readonly before: string;
  readonly isGood: boolean;
}

const tolerance = 1e-4;
/** Models in one server. */
const mostTogether = 16;
const slow = /ddddocr common|det|nudenet|basic-pitch|sudachi/;

function allCases(): readonly Case[] {
  const wheels = wheelModels.filter(isThere).map((model) => wheelCase(model, slow.test(model.name) ? 3 : 6));
  return [...ownCases(), ...teamModels().map(teamCase), ...wheels];
}

/** @returns the exit code */
export async function runMatrix({ pattern, before, isJson }: Options): Promise<number> {
  const missing = whyNoPython();
  if (missing !== null) throw new Error(missing);
  const python = new Python();
  const cases = allCases().filter(({ name }) => pattern === undefined || new RegExp(pattern).test(name));
  const rows: Row[] = [];
  for (const group of groupsOf(cases)) {
    for (const row of await rowsOf(group, python, before)) {
      rows.push(row);
      const cells = [row.model, row.plan, row.config, row.served, ...(before === undefined ? [] : [row.before])];
      if (!isJson)
        console.log(`| ${cells.map((cell) => cell.replace(/\s+/g, ' ').replaceAll('|', '\\|')).join(' | ')} |`);
    }
  }
  await python.end();
  const bad = rows.filter(({ isGood }) => !isGood);
  if (isJson) console.log(JSON.stringify(rows, null, 2));
  else console.log(`${rows.length} models, ${rows.length - bad.length} served equal, ${bad.length} not`);
  for (const { name } of wheelModels.filter((model) => !isThere(model))) console.log(`not there: ${name}`);
  return bad.length === 0 ? 0 : 1;
}

/** Models that one server serves: a server for each would take minutes to start, one for all gigabytes of memory. */
function groupsOf(cases: readonly Case[]): readonly (readonly Case[])[] {
  const groups: Case[][] = [];
  for (const one of cases) {
    const most = slow.test(one.name) ? 1 : mostTogether;
    const last = groups.at(-1);
    if (last === undefined || last.length >= most || slow.test(last[0]?.name ?? '')) groups.push([one]);
    else last.push(one);
  }
  return groups;
}

/** A model with the answers to its requests: by Python, and by ONNX Runtime for Node where it can run it. */
interface Answered {
  readonly model: Served;
  readonly inNode: Served | null;
}

async function rowsOf(cases: readonly Case[], python: Python, before: string | undefined): Promise<readonly Row[]> {
  const answered: Answered[] = [];
  const failed = new Map<string, string>();
  for (const one of cases) {
    try {
      const model: Served = { ...one, answers: await answersOfPython(one, python), tolerance };
      const node = await answersOfNode(one);
      answered.push({ model, inNode: node === null ? null : { ...model, answers: node } });
    } catch (error) {
      failed.set(one.name, `ONNX Runtime itself fails: ${(error as Error).message}`);
    }
  }
  const now = await fares(answered, undefined);
  const then = before === undefined ? null : await fares(answered, before);
  return cases.map(({ name, config }): Row => {
    const fare = now.get(name) ?? { plan: '', text: failed.get(name) ?? 'not asked', isGood: false };
    return {
      model: name,
      plan: fare.plan,
      config: Object.keys(config).length === 0 ? '' : JSON.stringify(config),
      served: fare.text,
      before: then?.get(name)?.text ?? '',
      isGood: fare.isGood,
    };
  });
}

interface Fare {
  readonly plan: string;
  readonly text: string;
  readonly isGood: boolean;
}

/** How models fare, by name: together in one server, or each in its own when that does not start. */
async function fares(all: readonly Answered[], checkout: string | undefined): Promise<ReadonlyMap<string, Fare>> {
  const server = new MatrixServer(
    all.map(({ model }) => model),
    {},
    checkout,
  );
  const found = new Map<string, Fare>();
  try {
    const isUp = await server.isReady();
    if (isUp) for (const one of all) found.set(one.model.name, await fare(server, one));
    else if (all.length === 1)
      found.set(all[0]?.model.name ?? '', { plan: '', text: `refused: ${refusalOf(server)}`, isGood: false });
  } finally {
    await endProcesses().catch((error: Error) => console.error(error.message));
  }
  if (found.size === 0 && all.length > 1)
    for (const one of all) for (const [name, own] of await fares([one], checkout)) found.set(name, own);
  return found;
}

/** A model that shares no run must answer as ONNX Runtime for Node does, to the bit. */
async function fare(server: MatrixServer, { model, inNode }: Answered): Promise<Fare> {
  try {
    const before = model.limits === undefined ? null : await server.cost();
    const outcome = await ask(server, model);
    const { signatures, max_rows, max_rows_because, retried_rows } = await server.modelAfter(
      model.name,
      outcome.replies,
    );
    // Another checkout may not tell why.
    const isAlone = max_rows_because?.includes(becauseAlone) ?? max_rows === 1;
    const plan = `${signatures.join()}${isAlone ? ', alone' : ''}`;
    const exact = inNode === null || !isAlone ? null : await ask(server, { ...inNode, tolerance: 'exact' });
    const faults = [...outcome.faults, ...(exact?.faults ?? [])];
    if (retried_rows > 0) faults.push(`${retried_rows} rows were run again alone: their shared run failed`);
    const cost = before === null ? null : { ...before, memoryMb: (await server.cost()).memoryMb };
    faults.push(...excesses(cost, model.limits));
    if (faults.length > 0) return { plan, text: `WRONG: ${faults.join('; ')}`, isGood: false };
    const runtimes = inNode === null ? 0 : differenceBetween(model, inNode);
    const off = outcome.most === 0 ? 'no bit' : outcome.most.toExponential(0);
    const inBits = exact === null || runtimes === 0 ? '' : ', by no bit from a run alone in Node';
    return { plan, text: `equal: ${outcome.replies} replies differ by ${off}${inBits}${costText(cost)}`, isGood: true };
  } catch (error) {
    return { plan: '', text: `FAILED: ${(error as Error).message.slice(0, 300)}`, isGood: false };
  }
}

function excesses(cost: Cost | null, limits: Cost | undefined): readonly string[] {
  if (cost === null || limits === undefined) return [];
  const isMore = cost.startMs > limits.startMs || cost.memoryMb > limits.memoryMb;
  return isMore ? [`it costs more than it may${costText(cost)}`] : [];
}

const costText = (cost: Cost | null): string =>
  cost === null
    ? ''
    : `; ${(cost.startMs / 1000).toFixed(1)} s of a core to start, ${Math.round(cost.memoryMb)} MB a worker`;

/** How much a run alone in Node differs from one in Python: the same kernels, compiled twice. */
function differenceBetween(python: Served, node: Served): number {
  const differences = node.answers.map((answer, i) =>
    differenceOf(Buffer.concat(answer.map(bytesOf)), python.answers[i] ?? [], tolerance),
  );
  return Math.max(...differences.map((difference) => (typeof difference === 'number' ? difference : Infinity)));
}

function refusalOf(server: MatrixServer): string {
  const fatal = server.log.find(({ level }) => level === 'error' || level === 'fatal') ?? server.log.at(-1);
  const { err } = (fatal ?? {}) as { err?: { message?: string } };
  return (err?.message ?? fatal?.msg ?? server.output).slice(0, 400);
}
