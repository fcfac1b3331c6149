// ONNX Runtime reports to its makers, and keeps unsent reports under $XDG_CACHE_HOME (or ~/.cache) and in the temporary
// folder, unless the environment has ORT_DISABLE_TELEMETRY=1 when a process creates its first session. Import this file
// before `onnxruntime-node`, and before starting a thread that will import it: it turns the reports off, unless the
// variable allows them (0, false, no or off).
//
// The environment of the process counts. In a thread `process.env` is a copy, and native code does not see changes to
// it: the main thread has to make them. A thread refuses to load the library if it cannot see that the main thread has.

import { getEnvironmentData, isMainThread, setEnvironmentData } from 'node:worker_threads';

const variable = 'ORT_DISABLE_TELEMETRY';

/** Every thread inherits this, whatever `env` it is started with. */
const decided = 'ml-tcp-server: telemetry of ONNX Runtime is decided';

const said = process.env[variable] ?? '';
const isAllowed = /^(0|false|no|off)$/i.test(said);

if (isMainThread) {
  // The library takes 1, true and yes as a yes, and all else as a no: here all but a clear no becomes a yes.
  if (!isAllowed) process.env[variable] = '1';
  setEnvironmentData(decided, true);
} else if (getEnvironmentData(decided) === undefined && !isAllowed && !/^(1|true|yes)$/i.test(said)) {
  throw new Error(
    `a thread cannot turn off the telemetry of ONNX Runtime: set ${variable}=1 in the environment of the process, or load the ONNX backend in its main thread first`,
  );
}
