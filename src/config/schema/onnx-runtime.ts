// ONNX Runtime, for the whole process: applied before any model is loaded.

import { type SettingsOf, setting } from '../setting.js';

export const onnxRuntime = {
  packageFolder: setting({
    doc: 'Folder of a package onnxruntime-node that is loaded in place of the one that comes along: for CUDA, or on a platform other than Linux and macOS on ARM. Empty: the one that comes along.',
    format: 'textOrEmpty',
    default: '',
    env: 'ONNX_RUNTIME_PACKAGE_FOLDER',
  }),
  disableTelemetry: setting({
    doc: 'Whether ONNX Runtime is kept from reporting to its makers: it would look up hosts of theirs, send to them, and write under $XDG_CACHE_HOME or ~/.cache. False lets it.',
    format: 'switch',
    default: true,
    env: 'ORT_DISABLE_TELEMETRY',
  }),
};

export type OnnxRuntimeSettings = SettingsOf<typeof onnxRuntime>;
