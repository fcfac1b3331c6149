// Triton's load generator: it asks for metadata, config and statistics before and after it measures, and refuses to run
// where one of them is not as Triton has it.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../models-cache.js';
import { TestProcess } from '../processes.js';
import { cleanEnv } from '../server.js';

const folder = join(cacheFolder, 'perf_analyzer');

/** Null when it can be used, else what is missing. */
export const whyNoPerfAnalyzer = (): string | null =>
  existsSync(join(folder, 'perf-analyzer.txt'))
    ? null
    : 'there is no perf_analyzer: python3 is missing, or it could not be fetched';

/** Ways to ask, each as arguments. */
export const perfAnalyzerModes = {
  'gRPC, one at a time': ['-i', 'grpc', '--concurrency-range', '1'],
  'gRPC, 16 at once': ['-i', 'grpc', '-a', '--concurrency-range', '16'],
  'gRPC, a stream of 4': ['-i', 'grpc', '--streaming', '-a', '--concurrency-range', '4'],
  'gRPC, batches of 4': ['-i', 'grpc', '-b', '4', '--concurrency-range', '4'],
  'gRPC, gzip': ['-i', 'grpc', '--grpc-compression-algorithm', 'gzip', '--concurrency-range', '4'],
  'gRPC, 200 a second': ['-i', 'grpc', '-a', '--request-rate-range', '200'],
  'HTTP, one at a time': ['-i', 'http', '--concurrency-range', '1'],
  'HTTP, 8 at once': ['-i', 'http', '-a', '--concurrency-range', '8'],
  'HTTP, batches of 4': ['-i', 'http', '-b', '4', '--concurrency-range', '4'],
  'HTTP, JSON': ['-i', 'http', '--input-tensor-format', 'json', '--output-tensor-format', 'json'],
  'HTTP, 200 a second': ['-i', 'http', '-a', '--request-rate-range', '200'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export interface Measured {
  /** What is wrong; null: nothing. */
  readonly why: string | null;
  /** Requests that it has counted itself. */
  readonly requests: number;
  /** Rows that it has subtracted from two answers of ours. */
  readonly inferences: number;
  readonly perSecond: number;
}

/** Three windows in which it counts. It takes them as they come: nothing here depends on how quick the machine is. */
const windows = ['-p', '400', '-r', '3', '-s', '1000'];

export async function perfAnalyzer(url: string, model: string, args: readonly string[]): Promise<Measured> {
  const all = ['-m', model, '-u', url, ...windows, ...args];
  const program = new TestProcess(join(folder, 'perf_analyzer'), all, {
    env: { ...cleanEnv(), LD_LIBRARY_PATH: folder },
  });
  const { code, signal } = await program.ended(60_000);
  const { output } = program;
  const number = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const requests = number(/Request count: (\d+)/);
  const inferences = number(/Inference count: (\d+)/);
  const isGood = code === 0 && requests > 0 && !/fail|error/i.test(output);
  return {
    why: isGood ? null : `it ended with ${code ?? signal}: ${output.slice(-500)}`,
    requests,
    inferences,
    perSecond: number(/Throughput: ([\d.]+) infer\/sec/),
  };
}
