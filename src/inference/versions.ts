// Versions of a model on disk: NAME/VERSION/model.onnx, where VERSION is a whole number. A path that has no such
// folders is a model without versions; it counts as changed when its files are others.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf } from './model-files.js';

export interface ModelVersion {
  /** The number of the folder, or `unversioned`. */
  readonly version: string;
  /** Where that version is. */
  readonly path: string;
  /** Differs when what is there was replaced; empty when nothing is there. */
  readonly identity: string;
}

/** What stands for the version of a model that has none. */
export const unversioned = 'unversioned';

const modelFiles = ['model.onnx', 'model.mjs', 'model.js'];

/**
 * Finds the version to serve.
 * @param wanted `latest`, or the number of the one that is pinned
 * @throws Error when a pinned version is not there
 */
export function findVersion(path: string, wanted: string): ModelVersion {
  const versions = versionsIn(path);
  if (versions.length === 0) return describe(unversioned, path);
  const version = wanted === 'latest' ? versions.at(-1) : versions.find((candidate) => candidate === wanted);
  if (version === undefined)
    throw new Error(`there is no version ${wanted} in ${path}: there are ${versions.join(', ')}`);
  return describe(version, join(path, version));
}

/**
 * Ascending. A folder counts when its model file has arrived, so that a copy in progress is not taken for a version.
 */
function versionsIn(path: string): readonly string[] {
  if (!existsSync(path) || !statSync(path).isDirectory()) return [];
  return readdirSync(path)
    .filter((name) => /^\d+$/.test(name) && modelFileIn(join(path, name)) !== null)
    .sort((a, b) => Number(a) - Number(b));
}

function modelFileIn(folder: string): string | null {
  return modelFiles.map((name) => join(folder, name)).find((file) => existsSync(file)) ?? null;
}

function describe(version: string, path: string): ModelVersion {
  if (!existsSync(path)) return { version, path, identity: '' };
  const file = statSync(path).isDirectory() ? (modelFileIn(path) ?? path) : path;
  return { version, path: file, identity: identityOf(file) };
}
