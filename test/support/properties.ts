// How a property reports a failure: what was wrong, then the smallest input for which it was, then how to run that
// again. Mocha loads this before all tests.

import { inspect } from 'node:util';
import fc from 'fast-check';

const maxLength = 1500;
const maxPathLength = 100;
const options = { depth: 6, maxArrayLength: 12, maxStringLength: 120, breakLength: 110, compact: 3 };

/** A value in a few lines, whatever its size; the first 50 of bytes. */
export function brief(value: unknown): string {
  const text = inspect(withBuffers(value), options);
  return text.length <= maxLength ? text : `${text.slice(0, maxLength)} … (${text.length - maxLength} more characters)`;
}

/** Buffers print in one line, arrays of bytes in many. */
function withBuffers(value: unknown, depth = 0): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return Array.isArray(value) && depth < options.depth ? value.map((item) => withBuffers(item, depth + 1)) : value;
}

/** Throws when the property has failed. */
export function report<T>(run: fc.RunDetails<T>): void {
  if (!run.failed) return;
  // Without a counterexample, too little was tried or it took too long: fast-check has its own message for that.
  if (run.counterexample === null) throw new Error(fc.defaultReportMessage(run) ?? 'the property has failed');
  const { errorInstance: cause, counterexample, counterexamplePath, seed, numRuns, numShrinks } = run;
  const what = cause instanceof Error ? cause.message : inspect(cause);
  // Without the shrinking steps in the path, they are repeated.
  const path =
    (counterexamplePath ?? '').length <= maxPathLength ? counterexamplePath : counterexamplePath?.split(':')[0];
  const error = new Error(
    [
      what.length <= maxLength ? what : `${what.slice(0, maxLength)} …`,
      `for ${brief(counterexample)}`,
      `found in run ${numRuns}, made smaller ${numShrinks} times; this one alone: { seed: ${seed}, path: '${path}' }`,
    ].join('\n'),
  );
  error.name = 'PropertyFailed';
  // The place of the failure rather than that of the report.
  const frames = cause instanceof Error ? /(\n +at .*)+$/.exec(cause.stack ?? '')?.[0].split('\n') : undefined;
  const ours = frames?.filter((frame) => !frame.includes('/node_modules/fast-check/')).join('\n');
  error.stack = `${error.name}: ${error.message}${ours ?? ''}`;
  throw error;
}

fc.configureGlobal({ ...fc.readConfigureGlobal(), reporter: report });
