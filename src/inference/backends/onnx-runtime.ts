// The only import of ONNX Runtime: it must not be loaded before its telemetry is decided.
// It prints coloured lines to stderr, which would end up between the lines of the log. Whatever keeps it from loading or
// running a model it throws as well, and we log that. What else it prints is a warning, some at each run: LightGBM's
// exporter declares a label for one row, and the runtime would say at each batch that there are more.

import './onnx-telemetry.js';
import ort from '#onnxruntime';

// Read when the first session is created, and then for all sessions of the process.
ort.env.logLevel = 'fatal';

export default ort;
