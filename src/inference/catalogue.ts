// From a model's settings to a model that runs.

import { createDummyModel } from './backends/dummy.js';
import { loadModuleModel } from './backends/module.js';
import { loadOnnxModel } from './backends/onnx.js';
import type { Model } from './model.js';

export type Backend = 'onnx' | 'module' | 'dummy';

export interface ModelSettings {
  readonly name: string;
  readonly backend: Backend;
  /** Absolute; a folder or file for onnx, a file for module, unused by dummy. */
  readonly path: string;
  /** Bytes of the dummy's reply. */
  readonly responseSize: number;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Throws Error, with what would mend it, when the model cannot be served. */
export async function loadModel(model: ModelSettings): Promise<Model> {
  switch (model.backend) {
    case 'onnx':
      return loadOnnxModel(model.path);
    case 'module':
      return loadModuleModel(model.path, { name: model.name, settings: model.settings });
    case 'dummy':
      return createDummyModel(model.responseSize);
  }
}
