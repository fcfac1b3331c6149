// A user's own model: a module whose default export creates it (see UserModel for the contract).

import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Replies, RowSource } from '../batch.js';
import type { LoadUserModel, Model, UserModel, UserModelOptions } from '../model.js';
import { identityOf, importQuery } from '../model-files.js';

/** Throws an Error that says how to fix it when the module is missing, throws, or breaks the contract. */
export async function loadModuleModel(
  path: string,
  options: UserModelOptions,
  identity: string = identityOf(path),
): Promise<Model> {
  if (!existsSync(path)) throw new Error(`there is no module at ${path}`);
  const url = pathToFileURL(path);
  // Node caches modules by URL: a replaced file needs another one.
  url.search = importQuery(path, identity);
  const exported: { default?: unknown } = await import(url.href);
  if (typeof exported.default !== 'function') {
    throw new Error(
      `${path} has no default export that is a function: export default (options) => ({ infer(payloads) { … } })`,
    );
  }
  const model: UserModel = await (exported.default as LoadUserModel)(options);
  if (typeof model?.infer !== 'function') {
    throw new Error(`the default export of ${path} returned no object with a function infer(payloads)`);
  }
  return {
    inputBytes: null,
    outputBytes: null,
    fixedRows: null,
    runsAloneBecause: null,
    plan: null,
    concurrency: 1,
    mayReplyWithInput: true,
    description: `module ${path}`,
    sample: model.sample === undefined ? null : Buffer.from(model.sample),
    run: (rows) => infer(model, rows),
    close: async () => model.close?.(),
  };
}

async function infer(model: UserModel, source: RowSource): Promise<Replies> {
  const payloads = Array.from({ length: source.rows }, (_, i) => source.payload(i));
  const rows = await model.infer(payloads);
  return { kind: 'rows', rows: Array.isArray(rows) ? rows.map(bytesOrError) : rows };
}

function bytesOrError(row: unknown): Uint8Array | Error {
  if (row instanceof Uint8Array || row instanceof Error) return row;
  return new TypeError(
    `a reply must be a Uint8Array (a Buffer is one) or an Error, not ${row === null ? 'null' : typeof row}`,
  );
}
