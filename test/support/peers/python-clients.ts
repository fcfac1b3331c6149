// Clients of the Open Inference Protocol in Python, which others made, and what our programs beside this file check with
// them. They live in a virtual environment that scripts/test/clients.mjs makes.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../models-cache.js';
import { root, TestProcess } from '../processes.js';
import { cleanEnv } from '../server.js';

export const python = join(cacheFolder, 'clients/bin/python');
const programs = join(root, 'test/support/peers');

/** Null when they can be used, else what is missing. */
export const whyNoPythonClients = (): string | null =>
  existsSync(join(cacheFolder, 'clients/client-packages.txt'))
    ? null
    : 'there are no Python clients: python3 is missing, or their packages could not be fetched';

export const pythonClients = {
  triton_grpc: "tritonclient's grpc",
  triton_grpc_aio: "tritonclient's grpc.aio",
  triton_http: "tritonclient's http",
  triton_http_aio: "tritonclient's http.aio",
  kserve_sdk: "KServe's SDK",
} as const;

export type PythonClient = keyof typeof pythonClients;

/** A promise that a program has checked. */
export interface Check {
  readonly name: string;
  /** What is wrong; null: it holds. */
  readonly why: string | null;
  readonly seconds: number;
}

/** Nothing is written beside our programs, and nothing of the machine's own Python is seen. */
export const pythonEnv = (extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => ({
  ...cleanEnv(extra),
  PYTHONDONTWRITEBYTECODE: '1',
  NO_PROXY: '*',
});

/** @param url host:port of an open listener that serves the models of models.ts */
export async function checksOf(client: PythonClient, url: string): Promise<readonly Check[]> {
  const process = new TestProcess(python, [join(programs, `${client}.py`), JSON.stringify({ url })], {
    env: pythonEnv(),
  });
  const { code } = await process.ended(120_000);
  const checks = process.lines.flatMap((line) => (line.startsWith('{"name"') ? [JSON.parse(line) as Check] : []));
  const hasFailed = checks.some(({ why }) => why !== null);
  if (code === (hasFailed ? 1 : 0) && checks.length > 0) return checks;
  return [...checks, { name: 'it runs to its end', why: process.output.slice(-600), seconds: 0 }];
}
