// What workers are started with. A reload makes the next one; until every worker has it, some have the one before.

import type { Config } from '../config/load.js';
import { withoutSecrets } from '../config/slices.js';
import type { ModelVersions } from '../ipc/messages.js';

export interface Deployment {
  /** Grows by one with each reload. */
  readonly revision: number;
  readonly config: Config;
  readonly versions: ModelVersions;
}

/** What counts for ONNX Runtime before a worker can read its config; and no secret of ours. */
export function workerEnvironment({
  config: { onnxRuntime },
}: Deployment): Readonly<Record<string, string | undefined>> {
  return {
    ...withoutSecrets,
    ORT_DISABLE_TELEMETRY: onnxRuntime.disableTelemetry ? '1' : '0',
    ONNX_RUNTIME_PACKAGE_FOLDER: onnxRuntime.packageFolder,
  };
}

/**
 * Models whose connections a worker of deployment `to` can take over from one of `from`: it serves them, framed alike.
 */
export function movableModels(from: Deployment, to: Deployment): readonly string[] {
  if (from.config.server.lengthFieldSize !== to.config.server.lengthFieldSize) return [];
  const served = new Set(to.config.listeners.map(({ model }) => model));
  return [...new Set(from.config.listeners.map(({ model }) => model))].filter((model) => served.has(model));
}
