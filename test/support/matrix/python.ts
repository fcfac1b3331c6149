// ONNX Runtime for Python, which shares no code with the server beside the kernels: it answers requests alone, and its
// world makes the models. It lives in a virtual environment that scripts/test/models.mjs makes.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cacheFolder } from '../models-cache.js';
import type { ElementType } from '../onnx-writer.js';
import { root } from '../processes.js';
import type { Tensor, Tensors } from './tensors.js';

const python = join(cacheFolder, 'venv/bin/python');
const scripts = join(root, 'test/support/matrix');

/** Null when Python can be used, else what is missing. */
export const whyNoPython = (): string | null =>
  existsSync(join(cacheFolder, 'venv/python-packages.txt'))
    ? null
    : 'there is no Python environment: python3 is missing, or its packages could not be fetched';

/** An output: a tensor, or for each row a map from class to score. */
export type PythonOutput = Tensor | { readonly maps: readonly (readonly (readonly [string | number, number])[])[] };

interface Told {
  readonly dtype: ElementType;
  readonly dims: readonly number[];
  readonly texts?: readonly string[];
  readonly bytes?: string;
}

const tell = ({ dtype, dims, data }: Tensor): Told =>
  Buffer.isBuffer(data) ? { dtype, dims, bytes: data.toString('base64') } : { dtype, dims, texts: data as string[] };
const understand = ({ dtype, dims, texts, bytes }: Told): Tensor => ({
  dtype,
  dims,
  data: texts ?? Buffer.from(bytes ?? '', 'base64'),
});

/** A process that answers requests alone. */
export class Python {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    this.#child = spawn(python, [join(scripts, 'alone.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (this.#child.stdout === null) throw new Error('the process has no output');
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** The outputs of each request, in the order of the model; rejects with the error of ONNX Runtime. */
  async answers(file: string, requests: readonly Tensors[]): Promise<readonly (readonly PythonOutput[])[]> {
    const told = requests.map((request) =>
      Object.fromEntries(Object.entries(request).map(([name, input]) => [name, tell(input)])),
    );
    this.#child.stdin?.write(`${JSON.stringify({ file, requests: told })}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('Python has ended');
    const { answers, error } = JSON.parse(value) as {
      answers?: readonly (readonly (Told | { maps: never })[])[];
      error?: string;
    };
    if (answers === undefined) throw new Error(error);
    return answers.map((outputs) => outputs.map((output) => ('maps' in output ? output : understand(output))));
  }

  async end(): Promise<void> {
    this.#child.stdin?.end();
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
  }
}

/** The outputs as tensors, as a model without ZipMap has them: of the maps, the scores of these classes in this order. */
export function withoutMaps(
  outputs: readonly PythonOutput[],
  classes: readonly (string | number)[],
): readonly Tensor[] {
  return outputs.map((output) => {
    if (!('maps' in output)) return output;
    const scores = Float32Array.from(
      output.maps.flatMap((row) => classes.map((key) => new Map(row).get(key) as number)),
    );
    return { dtype: 'float32', dims: [output.maps.length, classes.length], data: Buffer.from(scores.buffer) };
  });
}

/** A model as teams make them, with rows of real data. */
export interface TeamModel {
  readonly name: string;
  readonly file: string;
  readonly inputs: readonly string[];
  readonly requests: readonly Tensors[];
  readonly classes: readonly (string | number)[];
}

/** Makes the models of team-models.py, unless the cache has them. Throws what Python says when it cannot. */
export function teamModels(): readonly TeamModel[] {
  const folder = join(cacheFolder, 'team');
  const { status, stderr } = spawnSync(python, [join(scripts, 'team-models.py'), folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr.slice(-2000));
  const files = readdirSync(folder).filter((file) => file.endsWith('.onnx'));
  return files.sort().map((file) => {
    const about = JSON.parse(readFileSync(join(folder, file.replace(/onnx$/, 'json')), 'utf8')) as {
      readonly inputs: readonly string[];
      readonly requests: readonly Readonly<Record<string, Told>>[];
      readonly classes: readonly (string | number)[] | null;
    };
    const requests = about.requests.map((request) =>
      Object.fromEntries(Object.entries(request).map(([name, told]) => [name, understand(told)])),
    );
    return {
      name: file.replace(/\.onnx$/, ''),
      file: join(folder, file),
      inputs: about.inputs,
      requests,
      classes: about.classes ?? [],
    };
  });
}
