// From a model's settings to a model that runs in this thread. ONNX Runtime is loaded where it is needed alone: a
// thread that has native code in it cannot be ended.

import type { BatchTolerance, Model } from '../model.js';
import { createDummyModel } from './dummy.js';
import { loadModuleModel } from './module.js';
import type { SessionSettings } from './onnx.js';

export type Backend = 'onnx' | 'module' | 'dummy';

/** What there is to load; plain data, since threads get it too. */
export interface ModelSource {
  readonly name: string;
  readonly backend: Backend;
  /** Absolute; a folder or file for onnx, a file for module, unused by dummy. */
  readonly path: string;
  /** Differs when what lies at the path was replaced. */
  readonly identity?: string;
  /** Bytes of the dummy's reply. */
  readonly responseSize: number;
  /** Handed to a module as it is. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly session: SessionSettings;
  readonly batchTolerance: BatchTolerance;
}

/**
 * @param maxBatchSize rows of the largest batch that it will get
 * @throws Error, with what would mend it, when the model cannot be served
 */
export async function loadModel(source: ModelSource, maxBatchSize: number): Promise<Model> {
  const { name, backend, path, identity, responseSize, settings, session, batchTolerance } = source;
  switch (backend) {
    case 'onnx': {
      const { loadOnnxModel } = await import('./onnx.js'); // others do without ONNX Runtime
      return loadOnnxModel(path, session, { maxBatchSize, tolerance: batchTolerance });
    }
    case 'module':
      return loadModuleModel(path, { name, settings }, identity);
    case 'dummy':
      return createDummyModel(responseSize);
  }
}
