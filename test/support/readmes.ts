// The READMEs of this checkout, and the blocks of code in them.

import { dirname, join } from 'node:path';
import { root } from './processes.js';

interface Docs {
  readReadmes(): Readonly<Record<string, string>>;
  withTables(readmes: Readonly<Record<string, string>>): Promise<Readonly<Record<string, string>>>;
}

export const docs = (await import(`${root}scripts/docs.mjs`)) as Docs;

/** Path → text. */
export const readmes = docs.readReadmes();

export interface Block {
  readonly file: string;
  /** The heading above it. */
  readonly heading: string;
  readonly language: string;
  /** The text after the language: the name of the file that the block is. */
  readonly name: string;
  readonly text: string;
}

/** Blocks between fences, from top to bottom. Throws when one does not end. */
export function blocksOf(file: string): readonly Block[] {
  const blocks: Block[] = [];
  let heading = '';
  let open: { readonly language: string; readonly name: string; readonly lines: string[] } | null = null;
  for (const line of (readmes[file] ?? '').split('\n')) {
    const [, info] = /^\s*```(.*)$/.exec(line) ?? [];
    if (open === null && info !== undefined) {
      const [language = '', name = ''] = info.trim().split(' ');
      open = { language, name, lines: [] };
    } else if (open === null) heading = /^#+ (.+)$/.exec(line)?.[1] ?? heading;
    else if (info === undefined) open.lines.push(line);
    else {
      blocks.push({ file, heading, language: open.language, name: open.name, text: open.lines.join('\n') });
      open = null;
    }
  }
  if (open !== null) throw new Error(`${file}: a block of code under "${heading}" does not end`);
  return blocks;
}

export const allBlocks: readonly Block[] = Object.keys(readmes).flatMap(blocksOf);

/** The text without blocks of code. */
export function proseOf(file: string): string {
  return (readmes[file] ?? '').replace(/^\s*```.*\n[\s\S]*?^\s*```$/gm, '');
}

export interface Link {
  readonly file: string;
  /** As it is written. */
  readonly link: string;
  /** The path in the checkout that it names. */
  readonly path: string;
  /** The heading that it names there; empty for the file itself. */
  readonly anchor: string;
}

/** Links to other files of this checkout, or to headings in them. */
export function linksOf(file: string): readonly Link[] {
  return [...proseOf(file).matchAll(/\]\(((?!https?:)[^)\s]+)\)/g)].map(([, link = '']) => {
    const [target = '', anchor = ''] = link.split('#');
    return { file, link, path: target === '' ? file : join(dirname(file), target), anchor };
  });
}

/** The anchors of a file's headings, made as in a viewer of READMEs. */
export function anchorsOf(file: string): readonly string[] {
  return [...proseOf(file).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
