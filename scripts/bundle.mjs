// The programs as users run them, in bundle/: each process and thread of the server reads a few files instead of
// hundreds, which is most of what a start takes. dist/ has the same code file by file, for tests and as a library.
//
//   dist/worker/main.js, the files that it imports, and their packages ─▶ bundle/worker/main.js
//   what it loads late, by import()                                    ─▶ bundle/worker/main-NAME-HASH.js
//
// Our code is not minified: stacks can be read. Left out are ONNX Runtime, which is native code, and packages that few servers need.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const from = join(root, 'dist');
const to = join(root, 'bundle');

/** What a process or a thread starts from. */
const programs = [
  'cli.js',
  'worker/main.js',
  'worker/http/json/thread.js',
  'aggregator/embedded.js',
  'inference/threads/main.js',
];
/** Packages that stay outside: binaries, what is loaded only where config asks for it, and what others do without. */
const external = [
  '#onnxruntime',
  '@opentelemetry/*',
  'pino-pretty',
  ...['bufferutil', 'utf-8-validate', 'supports-color'], // ws and debug try them
];
/** Files beside the code that it reads. */
const isPage = (file) => /^aggregator\/page\//.test(file) && /\.(js|css|html|svg)$/.test(file);

const filesIn = (folder) => readdirSync(folder, { recursive: true, encoding: 'utf8' });
const isSame = (file, content) => existsSync(file) && readFileSync(file).equals(Buffer.from(content));

/** Written at the end of a build: newer than all that went into it. */
const stamp = join(to, '.built');

function isFresh() {
  if (!existsSync(stamp)) return false;
  const builtAt = statSync(stamp).mtimeMs;
  const code = filesIn(from).filter((file) => /\.(js|css|html|svg)$/.test(file) && !/^onnxruntime\//.test(file));
  const inputs = [
    fileURLToPath(import.meta.url),
    join(root, 'package-lock.json'),
    ...code.map((file) => join(from, file)),
  ];
  return inputs.every((file) => statSync(file).mtimeMs < builtAt);
}

/** The place of a file in a bundle is that of its folder: its own is lost, and others start from it. */
const ownPlaces = {
  name: 'own places',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\/dist\/.*\.js$/ }, ({ path }) => {
      const place = relative(from, path);
      if (place.startsWith('..')) return;
      const contents = readFileSync(path, 'utf8').replaceAll(
        'import.meta.url',
        `new URL(${JSON.stringify(place)}, new URL('__BUNDLE__', import.meta.url)).href`,
      );
      return { contents, resolveDir: dirname(path) };
    }),
};

/**
 * Without the comments of packages: V8 keeps the text of what it runs, two bytes for each character when a single one is
 * not ASCII, as some in comments are.
 */
const terse = {
  name: 'terse packages',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\/node_modules\/.*\.js$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, 'utf8'), { minifyWhitespace: true, legalComments: 'none' });
      return { contents: code };
    }),
};

/** The texts of the licences of the packages that are inside. */
function noticesOf(inputs) {
  const folders = new Set(inputs.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0] ?? []));
  const notices = [...folders].sort().map((folder) => {
    const path = join(root, folder);
    const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    const texts = readdirSync(path).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    const text = texts.map((file) => readFileSync(join(path, file), 'utf8').trim()).join('\n\n');
    return `${name} ${version} (${license})\n\n${text || `Licence: ${license}`}\n`;
  });
  return `The files in this folder contain code of these packages.\n\n${notices.join(`\n${'-'.repeat(80)}\n\n`)}`;
}

/** A program alone: what it shares with others is in each, so that it reads as few files as it can. */
const bundled = (program) =>
  build({
    absWorkingDir: root,
    entryPoints: [join(from, program)],
    outbase: from,
    outdir: to,
    chunkNames: `${program.replace(/\.js$/, '')}-[name]-[hash]`,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external,
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'none', // the notices have them all
    // Packages in CommonJS ask for modules of Node by this.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module';\nconst require = requireOf(import.meta.url);",
    },
    plugins: [ownPlaces, terse],
    metafile: true,
    write: false,
    logLevel: 'warning',
  });

async function bundle() {
  const built = await Promise.all(programs.map(bundled));
  const files = new Map(
    built
      .flatMap(({ outputFiles }) => outputFiles)
      .map(({ path, text }) => {
        const file = relative(to, path);
        return [file, text.replaceAll('__BUNDLE__', `${relative(dirname(file), '.') || '.'}/`)];
      }),
  );
  files.set('ThirdPartyNotices.txt', noticesOf(built.flatMap(({ metafile }) => Object.keys(metafile.inputs))));
  for (const file of filesIn(from).filter(isPage)) files.set(file, readFileSync(join(from, file)));
  // Unchanged files are not rewritten: a server may run from here, and checks whether its code has changed.
  for (const [file, content] of files) {
    const path = join(to, file);
    mkdirSync(dirname(path), { recursive: true });
    if (!isSame(path, content)) writeFileSync(path, content);
  }
  for (const file of existsSync(to) ? filesIn(to) : [])
    if (!files.has(file) && !statSync(join(to, file)).isDirectory()) rmSync(join(to, file));
  writeFileSync(stamp, '');
}

if (!isFresh()) await bundle();
