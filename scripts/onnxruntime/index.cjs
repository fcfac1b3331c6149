// Which ONNX Runtime is loaded: the package in the folder that onnxRuntime.packageFolder names, else the one beside this
// file. scripts/packages.mjs puts both into dist/onnxruntime.

const { existsSync } = require('node:fs');
const { join } = require('node:path');

/** The primary passes onnxRuntime.packageFolder to its workers in this variable. */
const folder = process.env.ONNX_RUNTIME_PACKAGE_FOLDER ?? '';
const platform = `${process.platform}-${process.arch}`;
const binaries = join(__dirname, 'bin/napi-v6', process.platform, process.arch);

if (folder !== '') module.exports = packageIn(folder);
else if (existsSync(binaries)) module.exports = require('./dist/index.js');
else {
  const { version } = require('./package.json');
  throw new Error(
    `this package brings no ONNX Runtime for ${platform}: install onnxruntime-node@${version} and name its folder in onnxRuntime.packageFolder`,
  );
}

function packageIn(path) {
  try {
    return require(path);
  } catch (cause) {
    throw new Error(
      `onnxRuntime.packageFolder: no package onnxruntime-node for ${platform} can be loaded from ${path}: ${cause.message.split('\n')[0]}`,
      { cause },
    );
  }
}
