// Loads a model into this thread by its settings. ONNX Runtime is loaded only where it is needed: a thread that has
// loaded native code cannot be ended.

import type { BatchTolerance, KnownModel, Model } from '../model.js';
import { identityOf } from '../model-files.js';
import { noOverrides, type TensorOverrides } from '../overrides.js';
import { createDummyModel } from './dummy.js';
import { loadModuleModel } from './module.js';
import type { SessionSettings } from './onnx.js';

export type Backend = 'onnx' | 'module' | 'dummy';

/** The model to load; plain data, since it is sent to threads too. */
export interface ModelSource {
  readonly name: string;
  readonly backend: Backend;
  /** Absolute; a folder or file for onnx, a file for module, unused by dummy. */
  readonly path: string;
  /** Changes when the files at the path are replaced. */
  readonly identity?: string;
  /** Bytes of the dummy's reply. */
  readonly responseSize: number;
  /** Passed to a module unchanged. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly session: SessionSettings;
  readonly batchTolerance: BatchTolerance;
  /** What config says of the tensors of an ONNX model; none by default. */
  readonly overrides?: TensorOverrides;
}

/**
 * @param maxBatchSize rows of the largest batch that the model will get
 * @param known what is known of this source; it is left aside when the files have changed since
 * @throws Error that says how to fix it, when the model cannot be served
 */
export async function loadModel(
  source: ModelSource,
  maxBatchSize: number,
  known: KnownModel | null = null,
): Promise<Model> {
  const {
    name,
    backend,
    path,
    identity,
    responseSize,
    settings,
    session,
    batchTolerance,
    overrides = noOverrides,
  } = source;
  switch (backend) {
    case 'onnx': {
      const { loadOnnxModel } = await import('./onnx.js'); // others do without ONNX Runtime
      const isKnown = known !== null && identity !== undefined && identityOf(path) === identity;
      return loadOnnxModel(path, session, {
        maxBatchSize,
        tolerance: batchTolerance,
        overrides,
        known: isKnown ? known : null,
      });
    }
    case 'module':
      return loadModuleModel(path, { name, settings }, identity);
    case 'dummy':
      return createDummyModel(responseSize);
  }
}
