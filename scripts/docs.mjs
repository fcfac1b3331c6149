// Writes the tables of the READMEs from the code that they describe: `npm run docs`. A test fails when they differ.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { threats } from './threats.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const benchReadme = 'scripts/bench/README.md';
const code = (text) => `\`${text}\``;
const row = (...cells) => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`;
const table = (head, rows) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n');

/** All READMEs of the checkout, path → text. The one that a newcomer reads comes first. */
export function readReadmes() {
  const isOurs = ({ name }) => !name.startsWith('.') && !['node_modules', 'dist', 'build'].includes(name);
  const foldersIn = (folder) =>
    readdirSync(join(root, folder), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && isOurs(entry))
      .flatMap(({ name }) => [join(folder, name), ...foldersIn(join(folder, name))]);
  const files = ['', ...foldersIn('')].flatMap((folder) =>
    readdirSync(join(root, folder)).includes('README.md') ? [join(folder, 'README.md')] : [],
  );
  return Object.fromEntries(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
}

/**
 * The table of the top README on speed, from the figures that `npm run bench -- --write` has put into its own README.
 */
function speedTable(benchText) {
  const figure = (label, column = 2) => {
    const line = benchText.split('\n').find((text) => text.startsWith(`| ${label} |`));
    const cell = line?.split('|')[column]?.trim();
    if (cell === undefined) throw new Error(`${benchReadme} has no row "${label}" with ${column} cells`);
    return cell;
  };
  const network = '64-64-10 network, 64 × 64';
  const reloads = 'connections dropped, replies lost, repeated or out of order';
  return table(
    ['what', 'measured'],
    [
      [
        'a small network (64-64-10), 64 connections with 64 requests in flight each',
        `${figure(network, 3)}, ${figure(network, 4)} of the ceiling`,
      ],
      [
        'the same against one call of the model for each request',
        `${figure('64 × 64 against batches of 1', 4)} times as many`,
      ],
      ['one request at a time, p50 of its latency', figure('64-64-10 network, 1 × 1, p50', 3)],
      ['served at three times the load that the model can take', figure('served')],
      ['dropped connections, lost or repeated replies in 10 reloads under full load', figure(reloads, 3)],
    ],
  );
}

async function tables(benchText) {
  const { clientErrors, operatorErrors } = await import('../dist/errors.js');
  const { leafKeys, leafSchema } = await import('../dist/config/load.js');
  const { listenerSchema } = await import('../dist/config/schema/listeners.js');
  const { modelSchema } = await import('../dist/config/schema/models.js');
  const { schema } = await import('../dist/config/schema/schema.js');
  const { metricOf } = await import('../dist/metrics/counters.js');
  const { familySources } = await import('../dist/aggregator/prometheus.js');
  const setting = (key, { default: value, env, doc }) => [
    code(key),
    code(JSON.stringify(value)),
    env ? code(env) : '',
    doc,
  ];
  const entries = (entrySchema) =>
    [...leafKeys(entrySchema)].map((key) => {
      const { default: value, doc } = leafSchema(key, entrySchema);
      return [code(key), code(JSON.stringify(value)), doc];
    });
  const defaultOf = (key) => {
    const [, ofModel] = key.split('models[].');
    return ofModel === undefined ? leafSchema(key).default : leafSchema(ofModel, modelSchema).default;
  };
  return {
    speed: speedTable(benchText),
    threats: table(
      ['threat', 'limit', 'default', 'counter', 'test'],
      threats.map(({ threat, keys, counter, test }) => [
        threat,
        keys.length === 0 ? 'built in' : keys.map(code).join(', '),
        keys.map((key) => code(JSON.stringify(defaultOf(key)))).join(', '),
        counter === null ? 'none' : code(counter),
        `“${test}”`,
      ]),
    ),
    'client-errors': table(
      ['code', 'when', 'raw frames', 'HTTP', 'gRPC, calls', 'try again?', 'counter'],
      Object.entries(clientErrors).map(([name, { meaning, answer, http = '', grpc, retry, counter }]) => [
        code(name),
        meaning,
        answer === 'none' ? '' : answer,
        http,
        grpc === undefined ? '' : code(grpc),
        retry,
        code(metricOf(counter)),
      ]),
    ),
    'exit-codes': table(
      ['exit code', 'code in the log', 'meaning'],
      [
        [0, '', 'stopped as asked'],
        ...Object.entries(operatorErrors).map(([name, { exitCode, meaning }]) => [exitCode, code(name), meaning]),
      ],
    ),
    config: table(
      ['key', 'default', 'environment', 'what it is for'],
      [...leafKeys(schema)].map((key) => setting(key, leafSchema(key))),
    ),
    models: table(['key of `models[]`', 'default', 'what it is for'], entries(modelSchema)),
    listeners: table(['key of `listeners[]`', 'default', 'what it is for'], entries(listenerSchema)),
    metrics: table(
      ['metric', 'type', 'what it tells'],
      familySources.map(({ name, type, help }) => [code(name), type, help]),
    ),
  };
}

/**
 * The READMEs (path → text) with their tables made from the current code. Throws when a table has no place in any of
 * them, or a place has no table.
 */
export async function withTables(readmes) {
  const contents = new Map(Object.entries(await tables(readmes[benchReadme] ?? '')));
  const places = /(<!-- table: ([\w-]+) -->\n)[\s\S]*?(<!-- end -->)/g;
  const written = Object.entries(readmes).map(([file, text]) => [
    file,
    text.replace(places, (_, begin, name, end) => {
      const content = contents.get(name);
      if (content === undefined) throw new Error(`${file} has a place for a table ${name} that nobody makes`);
      contents.delete(name);
      return `${begin}${content}\n${end}`;
    }),
  ]);
  if (contents.size > 0) throw new Error(`no README has a place for ${[...contents.keys()].join(', ')}`);
  return Object.fromEntries(written);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, text] of Object.entries(await withTables(readReadmes()))) writeFileSync(join(root, file), text);
}
