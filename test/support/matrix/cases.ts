// All models of the matrix in one form: what to serve, what to ask, and what must come back.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../folder.js';
import { type GraphSpec, writeOnnx } from '../onnx-writer.js';
import { type Answer, answersInNode } from './alone.js';
import { type OwnModel, ownModels } from './own-models.js';
import { type Python, type TeamModel, withoutMaps } from './python.js';
import type { Served } from './serve.js';
import { randomFrom, type Tensors } from './tensors.js';
import { fileOf, type WheelModel } from './wheel-models.js';

/** A model and its requests, before anything has answered them. */
export interface Case extends Omit<Served, 'answers' | 'tolerance'> {
  /** The file of a model that computes the same and that ONNX Runtime for Node can run; null: there is none. */
  readonly fileForNode: string | null;
  /** The classes of its maps, in order. */
  readonly classes: readonly (string | number)[];
  /** The places of the outputs that a reply holds, in order; null: all. */
  readonly returned: readonly number[] | null;
}

/** Distinct requests to each model. */
const requestsEach = 6;

const requestsOf = (
  request: (i: number, random: () => number) => Tensors,
  count = requestsEach,
): readonly Tensors[] => {
  const random = randomFrom(1);
  return Array.from({ length: count }, (_, i) => request(i, random));
};

/** Writes the models of own-models.ts to files. */
export function ownCases(): readonly (Case & { readonly own: OwnModel })[] {
  const folder = temporaryFolder();
  const write = (name: string, graph: GraphSpec): string => {
    const file = join(folder, `${name.replace(/\W+/g, '-')}.onnx`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, writeOnnx(graph));
    return file;
  };
  return Object.entries(ownModels).map(([name, own]) => {
    const { graph, withoutMaps: plain, config = {}, returned } = own;
    const file = write(name, graph);
    return {
      name,
      own,
      file,
      fileForNode: plain === undefined ? file : write(`${name} without maps`, plain),
      config,
      inputs: graph.inputs.map((input) => input.name),
      requests: requestsOf((i, random) => own.request(i, random)),
      classes: own.classes ?? [],
      returned: returned?.map((output) => graph.outputs.findIndex((one) => one.name === output)) ?? null,
    };
  });
}

export const teamCase = ({ name, file, inputs, requests, classes }: TeamModel): Case => ({
  name,
  file,
  fileForNode: classes.length > 0 ? null : file,
  config: {},
  inputs,
  requests,
  classes,
  returned: null,
});

/** @param count requests to it: fewer of a slow model */
export const wheelCase = (model: WheelModel, count = requestsEach): Case => ({
  name: model.name,
  file: fileOf(model),
  fileForNode: fileOf(model),
  config: model.config ?? {},
  ...(model.limits === undefined ? {} : { limits: model.limits }),
  inputs: model.inputs,
  requests: requestsOf((i, random) => model.request(i, random), count),
  classes: [],
  returned: null,
});

const chosen = ({ returned }: Case, outputs: Answer): Answer =>
  returned === null ? outputs : returned.map((k) => outputs[k] as Answer[number]);

export async function answersOfNode(one: Case): Promise<readonly Answer[] | null> {
  if (one.fileForNode === null) return null;
  return (await answersInNode(one.fileForNode, one.requests)).map((outputs) => chosen(one, outputs));
}

export async function answersOfPython(one: Case, python: Python): Promise<readonly Answer[]> {
  const answers = await python.answers(one.file, one.requests);
  return answers.map((outputs) => chosen(one, withoutMaps(outputs, one.classes)));
}
