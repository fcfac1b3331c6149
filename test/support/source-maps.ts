// Rewrites places in compiled files to places in their sources. Text is rewritten after it was printed, wherever it
// comes from: no process of the product runs with source maps, which would slow down every start, and the published
// package has none.

import { existsSync, readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { root } from './processes.js';

const compiled = /(?:file:\/\/)?(\/[^\s()"'\\:]*\/)?((?:bundle|dist|build\/test)\/[\w./-]+\.js):(\d+):(\d+)/g;
const maps = new Map<string, SourceMap | null>();

/** `file:///checkout/dist/format.js:12:3` becomes `src/format.ts:10:3`, in any text. */
export function withSources(text: string): string {
  return text.replace(
    compiled,
    (place: string, folder: string | undefined, file: string, line: string, column: string) =>
      folder === undefined || folder === root ? (sourceOf(file, Number(line), Number(column)) ?? place) : place,
  );
}

function sourceOf(file: string, line: number, column: number): string | null {
  const origin = mapOf(file)?.findOrigin(line, column);
  if (origin === undefined || !('fileName' in origin)) return null;
  const source = relative(root, resolve(root, dirname(file), origin.fileName));
  return `${source}:${origin.lineNumber}:${origin.columnNumber}`;
}

function mapOf(file: string): SourceMap | null {
  const known = maps.get(file);
  if (known !== undefined) return known;
  const path = `${root}${file}.map`;
  const map = existsSync(path) ? new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as SourceMapPayload) : null;
  maps.set(file, map);
  return map;
}
