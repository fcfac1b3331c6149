// Writes the README's tables from the code that they describe: `npm run docs`. A test fails when they differ.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { threats } from './threats.mjs';

const readmeFile = fileURLToPath(new URL('../README.md', import.meta.url));
const code = (text) => `\`${text}\``;
const row = (...cells) => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`;
const table = (head, rows) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n');

async function tables() {
  const { clientErrors, operatorErrors } = await import('../dist/errors.js');
  const { leafKeys, leafSchema } = await import('../dist/config/load.js');
  const { listenerSchema, modelSchema, schema } = await import('../dist/config/schema.js');
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
      ['code', 'when', 'what the client sees', 'try again?', 'counter'],
      Object.entries(clientErrors).map(([name, { meaning, answer, retry, counter }]) => [
        code(name),
        meaning,
        answer,
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

/** The README with its tables as the code has them now. Throws when a table has no place, or a place no table. */
export async function withTables(readme) {
  const contents = new Map(Object.entries(await tables()));
  const written = readme.replace(/(<!-- table: ([\w-]+) -->\n)[\s\S]*?(<!-- end -->)/g, (_, begin, name, end) => {
    const content = contents.get(name);
    if (content === undefined) throw new Error(`the README has a place for a table ${name} that nobody makes`);
    contents.delete(name);
    return `${begin}${content}\n${end}`;
  });
  if (contents.size > 0) throw new Error(`the README has no place for ${[...contents.keys()].join(', ')}`);
  return written;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(readmeFile, await withTables(readFileSync(readmeFile, 'utf8')));
}
