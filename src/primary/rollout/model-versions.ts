// The version of each model that the workers serve. Only the primary looks it up on disk, at the start and at each
// reload, so that a worker that is replaced in between serves the same version as the others.

import type { Config } from '../../config/load.js';
import { messageOf, OperatorError } from '../../errors.js';
import { findVersion } from '../../inference/versions.js';
import type { ModelVersions } from '../../ipc/messages.js';

/** Throws OperatorError MODEL_LOAD_FAILED when a pinned version is not there. */
export function findModelVersions(config: Pick<Config, 'models'>): ModelVersions {
  const versions = config.models.map((model, index) => {
    try {
      return [model.name, findVersion(model.path, model.version)];
    } catch (error) {
      const message = `the model ${model.name} cannot be served: ${messageOf(error)}; see models[${index}].version in config`;
      throw new OperatorError('MODEL_LOAD_FAILED', message, { cause: error });
    }
  });
  return Object.fromEntries(versions) as ModelVersions;
}
