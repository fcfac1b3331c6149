// What workers are started with. A reload makes the next deployment; until every worker has it, some have the previous
// one.

import type { Config } from '../config/load.js';
import { withoutSecrets } from '../config/slices.js';
import type { ModelVersions } from '../ipc/messages.js';
import { routesOf } from '../ipc/routes.js';

export interface Deployment {
  /** Grows by one with each reload. */
  readonly revision: number;
  readonly config: Config;
  readonly versions: ModelVersions;
}

/** The ONNX Runtime settings that apply before a worker can read its config, and none of our secrets. */
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
 * The routes whose connections can migrate from a worker of deployment `from` to one of `to`: `to` has them too, with
 * the same framing.
 */
export function movableRoutes(from: Deployment, to: Deployment): readonly string[] {
  if (from.config.server.lengthFieldSize !== to.config.server.lengthFieldSize) return [];
  const routes = routesOf(to.config.listeners);
  return [...routesOf(from.config.listeners).keys()].filter((route) => routes.has(route));
}
