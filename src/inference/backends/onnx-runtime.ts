// The only way to ONNX Runtime: nobody may load it before its telemetry is decided on.

import './onnx-telemetry.js';

export { default } from '#onnxruntime';
