// The files that a model consists of, and whether they have changed.
//
// A time alone is not enough: a file that is moved into place keeps the time at which it was made, and archives and
// images give all files the same time. Device, inode, size, mtime and ctime together are enough on file systems that
// keep them; for others, and in case of doubt, there is a hash of the content.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, relative, resolve, sep } from 'node:path';

/** A larger ONNX file contains its weights, and would take long to search. */
const maxSearchedBytes = 64 << 20;
const maxFiles = 200;

/**
 * The model's own file first, then the files in its folder, or below, that it refers to: for an ONNX model those with
 * its external data; for a module those that it and its imports name by a relative path.
 */
export function modelFiles(path: string): readonly string[] {
  const files = new Set<string>();
  const open = [path];
  for (let file = open.pop(); file !== undefined && files.size < maxFiles; file = open.pop()) {
    const stat = statSync(file, { throwIfNoEntry: false });
    if (files.has(file) || stat?.isFile() !== true) continue;
    files.add(file);
    if (stat.size <= maxSearchedBytes) open.push(...namedIn(file));
  }
  return [...files];
}

function namedIn(file: string): readonly string[] {
  if (file.endsWith('.onnx')) return externalData(readFileSync(file)).flatMap((name) => beside(file, name));
  if (isModule(file)) return relativePaths(readFileSync(file, 'utf8')).flatMap((name) => beside(file, name));
  return [];
}

const isModule = (file: string): boolean => /\.(m|c)?js$/.test(file);

/** The path of a file in the folder of `file` or below it; files elsewhere are not part of the model. */
function beside(file: string, name: string): readonly string[] {
  const folder = dirname(file);
  const path = resolve(folder, name);
  return relative(folder, path).startsWith(`..${sep}`) || name.includes('\0') ? [] : [path];
}

/** StringStringEntryProto { key: "location", value }, as in TensorProto.external_data of onnx.proto. */
const locationKey = Buffer.from('\n\x08location\x12');

function externalData(model: Buffer): readonly string[] {
  const names = new Set<string>();
  for (let at = model.indexOf(locationKey); at >= 0; at = model.indexOf(locationKey, at + 1)) {
    const { value, end } = varint(model, at + locationKey.length);
    if (value > 0 && value <= 4096 && end + value <= model.length) names.add(model.toString('utf8', end, end + value));
  }
  return [...names];
}

/** Reads at most two bytes: no path is longer than they can say. */
function varint(bytes: Buffer, at: number): { value: number; end: number } {
  const [low = 0, high = 0] = bytes.subarray(at, at + 2);
  return low < 0x80 ? { value: low, end: at + 1 } : { value: (low & 0x7f) + high * 0x80, end: at + 2 };
}

function relativePaths(source: string): readonly string[] {
  return [...source.matchAll(/['"`](\.{1,2}\/[^'"`\n]{1,500})['"`]/g)].map(([, path]) => path as string);
}

/** Changes when one of the files is replaced or changed; empty when there is none. */
export function identityOf(path: string): string {
  const files = modelFiles(path);
  if (files.length === 0) return '';
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file} ${statOf(file)}\n`);
  return hash.digest('hex').slice(0, 16);
}

function statOf(file: string): string {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? '' : [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');
}

/** A hash of the content of the files, read in pieces so that nothing else waits for long. */
export async function contentOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(256 << 10);
  for (const file of modelFiles(path)) {
    const handle = await open(file);
    try {
      hash.update(`${file}\n`);
      for (;;) {
        const { bytesRead } = await handle.read(piece, 0, piece.length);
        if (bytesRead === 0) break;
        hash.update(piece.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** The state of each module when this thread imported it: Node keeps modules as long as the thread lives. */
const imported = new Map<string, string>();

/**
 * The URL query that makes Node load a module again. Throws Error when something that the module imports was replaced
 * since this thread imported it: Node would still use the old one.
 */
export function importQuery(path: string, identity: string): string {
  const [main, ...others] = modelFiles(path).filter(isModule);
  for (const file of others.filter(existsSync)) {
    const now = statOf(file);
    const then = imported.get(file);
    if (then !== undefined && then !== now)
      throw new Error(
        `${file}, which ${main ?? path} imports, was replaced, and Node keeps imports as long as a process lives: \`ml-tcp-server reload\` loads it in new workers`,
      );
    imported.set(file, now);
  }
  return `changed=${encodeURIComponent(identity)}`;
}
