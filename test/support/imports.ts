// What the files of a source tree import from one another and from packages, and which of these imports a table of
// rules forbids.
//
// Imports are found where our formatter puts them: at the beginning of a line. Types count like values, since code that
// needs only a type today calls it tomorrow.

import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

/** Path below the root of the tree → text of the file. */
export type Sources = ReadonlyMap<string, string>;

export interface Import {
  /** The file that imports. */
  readonly from: string;
  /** As it is written, for example ../log.js. */
  readonly name: string;
  /** The file of the tree that it names; null for a package, or a module of Node. */
  readonly file: string | null;
}

export interface Rule {
  /**
   * A folder or a file of the tree; '' is for the files outside any folder. The longest one that fits a file is its
   * rule.
   */
  readonly of: string;
  /** What it may import beside itself: whatever other rules are for, or single files. */
  readonly may: readonly string[];
  /** The reason, as the second half of a sentence. */
  readonly because: string;
  /** Modules of Node that it must not use. */
  readonly withoutNode?: readonly string[];
}

/** Folder or file → the packages that may be imported there. The longest one that fits a file counts for it. */
export type Packages = Readonly<Record<string, readonly string[]>>;

const statements =
  /^(?:import|export)\b[^;'"`]*?\bfrom\s*(['"])(.+?)\1|^import\s*(['"])(.+?)\3|\b(?:import|require)\(\s*(['"`])([^'"`$]+?)\5/gm;

/** All TypeScript below `root`; `isWanted` may leave out paths. */
export function sourcesBelow(root: string, isWanted: (path: string) => boolean = () => true): Sources {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).map((path) => path.replaceAll('\\', '/'));
  const wanted = paths.filter((path) => /\.(tsx?|mjs)$/.test(path) && !path.endsWith('.d.ts') && isWanted(path));
  return new Map(wanted.sort().map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

/** @param tree where the files that they name lie, if these sources are only a part of it */
export function importsOf(sources: Sources, tree: Sources = sources): readonly Import[] {
  return [...sources].flatMap(([from, text]) =>
    [...text.matchAll(statements)].map((match) => {
      const name = match[2] ?? match[4] ?? match[6] ?? '';
      return { from, name, file: name.startsWith('.') ? fileOf(from, name, tree) : null };
    }),
  );
}

/** The imports that run when their file is loaded: neither of types nor by import() or require(). */
const loading =
  /^(?:import|export)\s+(?!type\b)(?!\{\s*(?:type\s+\w+,?\s*)+\}\s*from)[^;'"`]*?\bfrom\s*(['"])(.+?)\1|^import\s*(['"])(.+?)\3/gm;

/** What a program loads before its first line runs: files of the tree, and packages and modules of Node. */
export function loadedBy(entry: string, tree: Sources): ReadonlySet<string> {
  const loaded = new Set([entry]);
  for (const file of loaded) {
    for (const match of tree.get(file)?.matchAll(loading) ?? []) {
      const name = match[2] ?? match[4] ?? '';
      loaded.add(name.startsWith('.') ? fileOf(file, name, tree) : name);
    }
  }
  return loaded;
}

/** The source that a relative import names, by the name of its output or by its own. */
function fileOf(from: string, name: string, tree: Sources): string {
  const path = posix.normalize(posix.join(posix.dirname(from), name));
  const candidates = [path, ...['.ts', '.tsx'].map((ending) => path.replace(/\.js$/, ending))];
  return candidates.find((candidate) => tree.has(candidate)) ?? path;
}

/** A sentence for each import that the rules forbid: what it is, why it is forbidden, and how to fix it. */
export function forbiddenImports(
  imports: readonly Import[],
  rules: readonly Rule[],
  packages: Packages,
): readonly string[] {
  return imports.flatMap((one) => {
    if (one.file !== null) return forbiddenFile(one.from, one.file, rules) ?? [];
    return one.name.startsWith('node:')
      ? (forbiddenOfNode(one.from, one.name, rules) ?? [])
      : (forbiddenPackage(one.from, one.name, packages) ?? []);
  });
}

function forbiddenFile(from: string, file: string, rules: readonly Rule[]): string | null {
  const rule = ruleOf(from, rules);
  const other = ruleOf(file, rules);
  if (rule === null) return `${from} stands under no rule: give its folder a row`;
  if (other === null) return `${from} imports ${file}, which stands under no rule: give its folder a row`;
  if (other === rule || rule.may.includes(other.of) || rule.may.includes(file)) return null;
  const allowed = rule.may.length === 0 ? 'nothing else' : rule.may.map(nameOf).join(', ');
  return `${from} imports ${file}: ${nameOf(rule.of)} may import ${allowed}, because ${rule.because}. Hand it in from above, or move what both need below both; if the arrow is right, the row of ${nameOf(rule.of)} is wrong`;
}

function forbiddenOfNode(from: string, name: string, rules: readonly Rule[]): string | null {
  const rule = ruleOf(from, rules);
  const isForbidden = rule?.withoutNode?.some((module) => `${name}/`.startsWith(`node:${module}/`)) ?? false;
  if (!isForbidden) return null;
  return `${from} imports ${name}: ${nameOf(rule?.of ?? '')} does without it, because ${rule?.because}. Hand in what it is needed for`;
}

function forbiddenPackage(from: string, name: string, packages: Packages): string | null {
  const entry = longest(from, Object.keys(packages));
  const here = entry === null ? [] : (packages[entry] ?? []);
  if (here.some((wanted) => `${name}/`.startsWith(`${wanted}/`))) return null;
  const entrances = Object.keys(packages).filter((path) =>
    packages[path]?.some((known) => `${name}/`.startsWith(`${known}/`)),
  );
  const mend =
    entrances.length === 0 ? 'give it one file that it enters through' : `import ${entrances.join(' or ')} instead`;
  return `${from} imports ${name}: a package enters through one file, so that it can be replaced there; ${mend}`;
}

const ruleOf = (file: string, rules: readonly Rule[]): Rule | null => {
  const paths = rules.map((rule) => rule.of);
  return rules.find((rule) => rule.of === longest(file, paths)) ?? null;
};

/** The longest of the folders and files that `file` is or lies in; '' stands for files outside any folder. */
function longest(file: string, paths: readonly string[]): string | null {
  const fits = (path: string): boolean => (path === '' ? !file.includes('/') : `${file}/`.startsWith(`${path}/`));
  return paths
    .filter(fits)
    .reduce<string | null>((best, path) => (path.length >= (best?.length ?? 0) ? path : best), null);
}

const nameOf = (path: string): string => (path === '' ? 'what lies in no folder' : path);

/** Groups of files that import one another, each group once and in order; types count. */
export function circles(sources: Sources): readonly (readonly string[])[] {
  const next = new Map<string, Set<string>>();
  for (const { from, file } of importsOf(sources))
    if (file !== null) next.set(from, (next.get(from) ?? new Set()).add(file));
  const reached = new Map([...sources.keys()].map((file) => [file, reachable(file, next)]));
  const groups = [...sources.keys()]
    .filter((file) => reached.get(file)?.has(file))
    .map((file) => [...(reached.get(file) ?? [])].filter((other) => reached.get(other)?.has(file)).sort());
  return [...new Map(groups.map((group) => [group.join(), group])).values()];
}

/** Everything that a file imports, directly or indirectly. */
function reachable(file: string, next: ReadonlyMap<string, ReadonlySet<string>>): ReadonlySet<string> {
  const found = new Set<string>();
  const queue = [...(next.get(file) ?? [])];
  for (let other = queue.pop(); other !== undefined; other = queue.pop()) {
    if (found.has(other)) continue;
    found.add(other);
    queue.push(...(next.get(other) ?? []));
  }
  return found;
}
