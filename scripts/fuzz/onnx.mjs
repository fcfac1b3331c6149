// Bytes in place of a model file: whatever they are, the file is opened or refused with a message, by a bounded amount
// of reading; and where ZipMap was taken out, what is left is a model file without maps that declares the same.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { FileBytes } from '../../dist/inference/backends/onnx-file/bytes.js';
import { openModelFile } from '../../dist/inference/backends/onnx-file/open.js';
import { field, message } from '../../dist/inference/backends/onnx-file/protobuf.js';

const folder = mkdtempSync(join(tmpdir(), 'fuzz-onnx-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'model.onnx');

/** How often a byte may be read: the file is walked a few times, and maps are looked for in every graph. */
const mostReads = 100;
const { close: closeFile } = FileBytes.prototype;
let bytesRead = 0;
FileBytes.prototype.close = function close() {
  bytesRead += this.bytesRead;
  closeFile.call(this);
};

/** Null when it is refused. */
function open(bytes) {
  writeFileSync(file, bytes);
  bytesRead = 0;
  const opened = tryToOpen();
  if (bytesRead > mostReads * (bytes.length + 16)) throw new Error(`${bytesRead} bytes were read of ${bytes.length}`);
  return opened;
}

function tryToOpen() {
  try {
    return openModelFile(file);
  } catch (error) {
    if (/^(\/.*model\.onnx |the (input|output) )/s.test(error.message)) return null;
    throw error;
  }
}

export function fuzz(data) {
  const opened = open(data);
  if (opened === null || typeof opened.source === 'string') return;
  const again = open(opened.source);
  const isSame =
    again !== null && again.source === file && isDeepStrictEqual(again.declared.outputs, opened.declared.outputs);
  if (!isSame) throw new Error('without ZipMap it is another model');
}

export const covers = (url) => url.includes('/dist/inference/backends/onnx-file/');

const float = field(1, message(field(1, 1), field(2, message(field(1, field(2, 'n')), field(1, field(1, 2))))));
const maps = (key) => field(4, field(1, field(5, message(field(1, key), field(2, field(1, field(1, 1)))))));
const value = (name, type) => message(field(1, name), field(2, type));
const node = (input, output, op, ...more) => message(field(1, input), field(2, output), field(4, op), ...more);
const ml = field(7, 'ai.onnx.ml');
const texts = field(5, message(field(1, 'classlabels_strings'), field(9, 'a'), field(9, 'b'), field(20, 8)));
const numbers = field(5, message(field(1, 'classlabels_int64s'), field(8, 1), field(8, 0), field(20, 7)));
const model = (...graph) =>
  message(field(1, 8), field(2, 'skl2onnx'), field(7, message(...graph)), field(8, field(2, 17)));
const inner = message(field(1, node('z', 's', 'Identity')), field(12, value('s', maps(8))));
const branch = field(5, message(field(1, 'then_branch'), field(6, inner), field(20, 5)));
const external = field(13, message(field(1, 'location'), field(2, 'w')));

export const seeds = [
  model(field(1, node('x', 'z', 'ZipMap', texts, ml)), field(11, value('x', float)), field(12, value('z', maps(8)))),
  model(
    field(1, node('x', 'z', 'ZipMap', numbers, ml)),
    field(1, node('z', 'y', 'Identity')),
    field(11, value('x', float)),
    field(12, value('y', maps(7))),
    field(13, value('z', maps(7))),
  ),
  model(
    field(1, node('x', 'z', 'ZipMap', texts, ml)),
    field(1, node('x', 'y', 'If', branch)),
    field(12, value('z', maps(8))),
  ),
  model(
    field(5, message(field(1, 2), field(2, 1), field(8, 'w'), external, field(14, 1))),
    field(11, value('x', float)),
  ),
  model(field(11, value('x', field(8, field(1, 1)))), field(12, value('y', field(9, field(1, float))))),
];
export const words = ['ZipMap', 'Identity', 'ai.onnx.ml', 'classlabels_strings', 'location', 'x', 'z'].map((word) =>
  Buffer.from(word),
);
