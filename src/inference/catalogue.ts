// From a model's settings to a model that runs in this thread.

import { createDummyModel } from './backends/dummy.js';
import { loadModuleModel } from './backends/module.js';
import type { SessionSettings } from './backends/onnx.js';
import type { Model } from './model.js';

export type Backend = 'onnx' | 'module' | 'dummy';

/** What there is to load; plain data, since threads get it too. */
export interface ModelSource {
  readonly name: string;
  readonly backend: Backend;
  /** Absolute; a folder or file for onnx, a file for module, unused by dummy. */
  readonly path: string;
  /** Bytes of the dummy's reply. */
  readonly responseSize: number;
  /** Handed to a module as it is. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly session: SessionSettings;
}

/** Throws Error, with what would mend it, when the model cannot be served. */
export async function loadModel({ name, backend, path, responseSize, settings, session }: ModelSource): Promise<Model> {
  switch (backend) {
    case 'onnx': {
      const { loadOnnxModel } = await import('./backends/onnx.js'); // others do without ONNX Runtime
      return loadOnnxModel(path, session);
    }
    case 'module':
      return loadModuleModel(path, { name, settings });
    case 'dummy':
      return createDummyModel(responseSize);
  }
}
