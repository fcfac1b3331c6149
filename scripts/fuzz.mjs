// `npm run fuzz -- decoder|http|oip|onnx [--seconds N] [--seed N]`: coverage-guided fuzzing. Inputs that reach new code, or
// reach code more often than any before, are kept and changed further; V8 itself counts (its precise block coverage),
// so nothing has to be instrumented or compiled. The corpus stays in build/fuzz/TARGET from run to run. An input that
// fails is kept there too, and printed: it belongs in a test.

import { createHash, randomInt } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Coverage } from './fuzz/coverage.mjs';
import { createMutator } from './fuzz/mutate.mjs';
import { build, install, root } from './prepare.mjs';

const targets = ['decoder', 'http', 'oip', 'onnx'];
/** Inputs between two reads of the counts; a read costs more than an input. */
const inputsALook = 20;

const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: String(randomInt(1e9)) } },
  allowPositionals: true,
});
const [target = ''] = positionals;
const seconds = Number(values.seconds);
if (!targets.includes(target) || !(seconds > 0)) {
  console.error(`usage: npm run fuzz -- ${targets.join('|')} [--seconds N] [--seed N]`);
  process.exit(2);
}

install();
build();
const folder = join(root, 'build/fuzz', target);
mkdirSync(folder, { recursive: true });
const nameOf = (input) => createHash('sha1').update(input).digest('hex').slice(0, 16);

const { fuzz, seeds, words, covers } = await import(`./fuzz/${target}.mjs`);
const mutate = createMutator(Number(values.seed), words);
const coverage = new Coverage(covers);
const corpus = [];
let runs = 0;

async function run(input) {
  runs++;
  try {
    await fuzz(input);
  } catch (error) {
    const file = join(folder, `failed-${nameOf(input)}`);
    writeFileSync(file, input);
    console.error(`input ${file} fails: ${input.toString('hex')}`);
    console.error(error);
    process.exit(1);
  }
}

/** Runs inputs, and keeps those that have reached something new. */
async function explore(inputs) {
  for (const input of inputs) await run(input);
  if (!coverage.hasNews()) return;
  for (const input of inputs) {
    await run(input);
    if (!coverage.takeNews()) continue;
    corpus.push(input);
    writeFileSync(join(folder, nameOf(input)), input);
  }
}

for (const seed of seeds) await run(seed);
corpus.push(...seeds);
coverage.takeNews();
const kept = readdirSync(folder).filter((name) => /^[0-9a-f]{16}$/.test(name));
for (const name of kept) await explore([readFileSync(join(folder, name))]);
const until = performance.now() + seconds * 1000;
let reportedAt = performance.now();
while (performance.now() < until) {
  await explore(Array.from({ length: inputsALook }, () => mutate(corpus)));
  if (performance.now() - reportedAt < 10_000) continue;
  reportedAt = performance.now();
  console.log(`${runs} inputs, ${corpus.length} kept, ${coverage.size} places reached`);
}
console.log(`${runs} inputs (seed ${values.seed}), ${corpus.length} kept, ${coverage.size} places reached, none fails`);
process.exit(0);
