// The only import of ONNX Runtime: it must not be loaded before its telemetry is decided.

import './onnx-telemetry.js';

export { default } from '#onnxruntime';
