// The models that requests name, as typed protocols know them.

import type { ServedModel } from '../../inference/served-model.js';
import { unversioned } from '../../inference/versions.js';
import type { Recorder } from '../../metrics/recorder.js';
import { quoted } from '../../protocol/invalid-message.js';
import type { ModelEndpoint } from '../../serving/model-endpoint.js';
import { CallError, type CallListener } from './service.js';
import { ModelSignature } from './signature.js';

/** What typed protocols need to know of a model that is served. */
export type ServedTensors = Pick<
  ServedModel,
  'backend' | 'plan' | 'inputBytes' | 'version' | 'maxQueueDelayMs' | 'mostRunRows'
>;

/** A model in the version that is served now. */
export interface CallModel {
  readonly name: string;
  readonly version: string;
  readonly endpoint: ModelEndpoint;
  readonly signature: ModelSignature;
  readonly served: ServedTensors;
}

/** The version of a model that has none: Triton's clients take numbers. */
const firstVersion = '1';
/** How many names a message has. */
const mostNames = 8;

/** A model as `find` gave it last, and what it was made from. */
interface Known extends CallModel {
  readonly plan: ServedModel['plan'];
  readonly rawVersion: string;
}

export class CallModels {
  /** Of the worker. */
  readonly recorder: Recorder;
  readonly #served: ReadonlyMap<string, ServedTensors>;
  readonly #endpoints: ReadonlyMap<string, ModelEndpoint>;
  readonly #mostRows: (model: string) => number;
  readonly #known = new Map<string, Known>();

  /** @param mostRows how many rows of a model may wait, and so how many a request may have */
  constructor(
    recorder: Recorder,
    served: ReadonlyMap<string, ServedTensors>,
    endpoints: ReadonlyMap<string, ModelEndpoint>,
    mostRows: (model: string) => number,
  ) {
    this.recorder = recorder;
    this.#served = served;
    this.#endpoints = endpoints;
    this.#mostRows = mostRows;
  }

  /** Throws CallError MODEL_NOT_FOUND. */
  find({ models, defaultModel }: CallListener, name: string, version: string): CallModel {
    const wanted = name === '' ? defaultModel : name;
    if (wanted === null)
      throw new CallError('MODEL_NOT_FOUND', `the request names no model, and there are ${listed(models)}: name one`);
    if (!models.includes(wanted)) throw unknown(wanted, models);
    const model = this.#get(wanted);
    if (version !== '' && version !== model.version)
      throw new CallError(
        'MODEL_NOT_FOUND',
        `Request for unknown model: ${shown(wanted)} has the version ${quoted(model.version)}, and not ${quoted(version)}`,
      );
    return model;
  }

  #get(name: string): CallModel {
    const served = this.#served.get(name);
    const endpoint = this.#endpoints.get(name);
    if (served === undefined || endpoint === undefined) throw new Error(`the model ${name} is not served`);
    const before = this.#known.get(name);
    const { plan, version: rawVersion } = served;
    if (before !== undefined && before.plan === plan && before.rawVersion === rawVersion) return before;
    const version = rawVersion === unversioned ? firstVersion : rawVersion;
    const { inputBytes, mostRunRows } = served;
    const signature = new ModelSignature({ plan, inputBytes, mostRows: this.#mostRows(name), mostRunRows });
    const model = { name, version, endpoint, signature, served, plan, rawVersion };
    this.#known.set(name, model);
    return model;
  }
}

const shown = (name: string): string => `'${quoted(name).slice(1, -1)}'`;

const listed = (names: readonly string[]): string => {
  const some = names.slice(0, mostNames).map(quoted).join(', ');
  return names.length > mostNames ? `${some} and ${names.length - mostNames} more` : some;
};

/** In the words that Triton's clients look for. */
function unknown(name: string, models: readonly string[]): CallError {
  return new CallError(
    'MODEL_NOT_FOUND',
    `Request for unknown model: ${shown(name)} is not found; there are ${listed(models)}`,
  );
}
