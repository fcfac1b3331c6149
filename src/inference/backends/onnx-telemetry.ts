// ONNX Runtime reports to its makers, and keeps what it has not sent yet under $XDG_CACHE_HOME (or ~/.cache) and in the
// temporary folder, unless the environment says ORT_DISABLE_TELEMETRY=1 when a process makes its first session. Import
// this file before `onnxruntime-node`, and before a thread is started that will import it: unless somebody has said
// that it may report (0, false, no or off), it is told not to.
//
// What counts is the environment of the process. In a thread `process.env` is a copy, and what is written there reaches
// no native code: the main thread has to do it. A thread that knows of no main thread that has done it refuses to load
// the library.

import { getEnvironmentData, isMainThread, setEnvironmentData } from 'node:worker_threads';

const variable = 'ORT_DISABLE_TELEMETRY';

/** Inherited by every thread, whatever `env` it is started with. */
const decided = 'ml-tcp-server: telemetry of ONNX Runtime is decided';

const said = process.env[variable] ?? '';
const isAllowed = /^(0|false|no|off)$/i.test(said);

if (isMainThread) {
  // To the library 1, true and yes are a yes and all else is a no: what is no clear no is made a yes.
  if (!isAllowed) process.env[variable] = '1';
  setEnvironmentData(decided, true);
} else if (getEnvironmentData(decided) === undefined && !isAllowed && !/^(1|true|yes)$/i.test(said)) {
  throw new Error(
    `a thread cannot turn off the telemetry of ONNX Runtime: set ${variable}=1 in the environment of the process, or load the ONNX backend in its main thread first`,
  );
}
