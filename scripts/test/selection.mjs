// What `npm test` is asked for: which spec files, and which arguments go to Mocha unchanged.

import { readdirSync } from 'node:fs';
import { join, posix, relative, resolve } from 'node:path';

/** Folders of specs, in the order in which they run. */
export const suites = ['unit', 'contract', 'integration', 'e2e'];

/** The suites of `--unit`: they start no server, and take half a minute in all. */
export const quickSuites = ['unit', 'contract'];

export const usage = `npm test -- [--unit] [--watch] [-g PATTERN] [PATH …]

  PATH          a spec (test/unit/format.test.ts), a folder (test/unit/metrics), or a quoted glob; several add up
  --unit        the quick half: ${quickSuites.map((suite) => `test/${suite}`).join(' and ')}
  --watch       runs again whenever a file of src/ or test/ changes, until Ctrl-C
  -g PATTERN    only the tests whose names match; other options of Mocha go to it as well (as --timeout=0, --bail)

Without PATH and --unit, everything runs, and lint must be clean.`;

/** What is wrong with the arguments, in words for the user. */
export class UsageError extends Error {}

const valued = new Set(['-g', '--grep', '-f', '--fgrep', '-t', '--timeout', '-s', '--slow', '-R', '--reporter']);
const isGlob = (path) => /[*?]/.test(path);

/** All specs of a checkout, as `test/unit/x.test.ts`. */
export function allSpecs(root) {
  return suites.flatMap((suite) =>
    readdirSync(join(root, 'test', suite), { recursive: true, encoding: 'utf8' })
      .map((file) => `test/${suite}/${file.replaceAll('\\', '/')}`)
      .filter((file) => file.endsWith('.test.ts'))
      .sort(),
  );
}

/**
 * @param args the arguments after `npm test --`
 * @param specs see allSpecs
 * @param folder the base of paths that are not relative to the checkout
 * @returns isWhole: nothing is left out, so nothing may be wrong; specs; forMocha: the arguments that are Mocha's own
 */
export function select(args, { root, specs, folder = root }) {
  const paths = [];
  const forMocha = [];
  let [isWatch, isQuick] = [false, false];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    if (arg === '--watch') isWatch = true;
    else if (arg === '--unit') isQuick = true;
    else if (valued.has(arg)) {
      if (i + 1 === args.length) throw new UsageError(`${arg} wants a value behind it`);
      forMocha.push(arg, args[++i]);
    } else if (arg.startsWith('-')) forMocha.push(arg);
    else paths.push(arg);
  }
  if (isQuick) paths.push(...quickSuites.map((suite) => `test/${suite}`));
  const chosen = new Set(paths.flatMap((path) => specsAt(path, { root, specs, folder })));
  return {
    isWatch,
    isWhole: args.length === 0,
    specs: paths.length === 0 ? specs : specs.filter((spec) => chosen.has(spec)),
    forMocha,
  };
}

function specsAt(path, { root, specs, folder }) {
  for (const from of [root, folder]) {
    const wanted = sourceOf(posix.normalize(relative(root, resolve(from, path)).replaceAll('\\', '/')));
    const found = specs.filter((spec) =>
      isGlob(wanted) ? isMatch(spec, wanted) : spec === wanted || spec.startsWith(`${wanted}/`) || wanted === 'test',
    );
    if (found.length > 0) return found;
  }
  const name = posix.basename(path.replaceAll('\\', '/')).replace(/(\.test)?\.[jt]s$/, '');
  const near = specs.filter((spec) => posix.basename(spec, '.test.ts') === name);
  const advice =
    near.length > 0
      ? `did you mean ${near.join(' or ')}?`
      : `specs lie in ${suites.map((suite) => `test/${suite}`).join(', ')} and end in .test.ts`;
  throw new UsageError(`no test is at ${path}: ${advice}`);
}

/** A path of the build names the source that it was built from. */
const sourceOf = (path) => path.replace(/^build\/test(?=\/|$)/, 'test').replace(/\.js$/, '.ts');

function isMatch(spec, glob) {
  const pattern = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*\*\/|\*\*|\*|\?/g, (wild) => ({ '**/': '(.*/)?', '**': '.*', '*': '[^/]*', '?': '[^/]' })[wild]);
  return new RegExp(`^${pattern}$`).test(spec);
}

/** Where the compiler puts the output of a spec. */
export const builtFrom = (spec) => `build/${spec.replace(/\.ts$/, '.js')}`;
