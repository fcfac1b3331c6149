// Versions of a model on disk: NAME/VERSION/model.onnx, where VERSION is a whole number. A path that has no such
// folders is a model without versions; it counts as changed when its files were replaced.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf } from './model-files.js';

export interface ModelVersion {
  /** The number of the folder, or `unversioned`. */
  readonly version: string;
  /** The path of that version. */
  readonly path: string;
  /** Changes when the files at the path are replaced; empty when there are none. */
  readonly identity: string;
}

/** The version of a model without versions. */
export const unversioned = 'unversioned';

const modelFiles = ['model.onnx', 'model.mjs', 'model.js'];

/**
 * Finds the version to serve.
 * @param wanted `latest`, or the number of the pinned version
 * @throws Error when the pinned version does not exist
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
 * The versions in ascending order. A folder counts once it has its model file, so that a copy in progress is not taken
 * for a version.
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
