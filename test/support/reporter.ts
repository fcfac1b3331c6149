// Mocha's own summary, with what helps to understand a failure: places in the sources, and what the processes of the
// test have printed. Skipped tests give their reason. The last line is machine-readable.

import Mocha from 'mocha';
import { endAbruptly, type Printed, printedSince, remember } from './processes.js';
import { whySkipped } from './skip.js';
import { withSources } from './source-maps.js';

const events = Mocha.Runner.constants;
const { color, consoleLog } = Mocha.reporters.Base as unknown as {
  readonly color: (kind: string, text: string) => string;
  readonly consoleLog: (...text: readonly string[]) => void;
};

interface Failure {
  readonly title: string;
  printed: readonly Printed[];
}

export default class PlainLineReporter extends Mocha.reporters.Spec {
  readonly #failed: Failure[] = [];
  readonly #skipped: string[] = [];

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    // Before Mocha's own listeners, which keep what they are given.
    runner.on(events.EVENT_TEST_FAIL, (_, error: unknown) => {
      if (error instanceof Error) tellPlaces(error);
    });
    super(runner, options);
    // Such a hook would end what tests of other files are using.
    const { _beforeAll, _beforeEach, _afterEach, _afterAll } = runner.suite as unknown as Record<string, unknown[]>;
    if ([_beforeAll, _beforeEach, _afterEach, _afterAll].some((hooks) => (hooks ?? []).length > 0))
      throw new Error('a hook outside of every `describe` runs for the tests of all files: move it into one');
    let unfinished: Failure[] = [];
    // The output of a process is complete when the hooks after the test have ended it.
    const finish = (): void => {
      if (unfinished.length > 0) {
        const printed = printedSince();
        for (const failure of unfinished) failure.printed = printed;
        unfinished = [];
      }
      remember();
    };
    runner.on(events.EVENT_TEST_FAIL, (test) => {
      const failure = { title: test.fullTitle(), printed: [] };
      this.#failed.push(failure);
      unfinished.push(failure);
    });
    for (const event of [events.EVENT_SUITE_BEGIN, events.EVENT_TEST_BEGIN, events.EVENT_SUITE_END])
      runner.on(event, finish);
    runner.on(events.EVENT_TEST_PENDING, (test) => {
      const why = whySkipped(test) ?? 'without a reason';
      this.#skipped.push(why);
      consoleLog(color('pending', `      skipped: ${why}`));
    });
    process.once('SIGINT', () => {
      endAbruptly();
      process.exit(130);
    });
  }

  override epilogue(): void {
    super.epilogue();
    this.#failed.forEach(({ title, printed }, i) => {
      for (const { command, earlier, lines } of printed) {
        consoleLog(`  ${i + 1}) ${title}\n     ${command} printed:`);
        if (earlier > 0) consoleLog(`       (${earlier} lines before)`);
        for (const line of lines) consoleLog(`       ${withSources(line)}`);
        consoleLog('');
      }
    });
    const { passes, failures } = this.stats;
    console.log(lastLine({ passes, failures, skipped: this.#skipped }));
    // Before it ends, Node takes its handles apart, and it spins forever when a handle that a test has left half closed
    // never reports that it is done. Nothing is left to wait for.
    process.once('beforeExit', () => process.exit());
    setTimeout(() => {
      console.error(`a test has left something open: ${process.getActiveResourcesInfo().join(', ')}`);
      process.exit(1);
    }, 10_000).unref();
  }
}

/** `7 passed, 0 failed, 3 skipped (2: nginx is not installed; 1: …)`. */
export function lastLine({
  passes,
  failures,
  skipped,
}: {
  readonly passes: number;
  readonly failures: number;
  readonly skipped: readonly string[];
}): string {
  const counts = new Map<string, number>();
  for (const why of skipped) counts.set(why, (counts.get(why) ?? 0) + 1);
  const reasons = [...counts].map(([why, count]) => `${count}: ${why}`).join('; ');
  const nothing = passes + failures === 0 ? '; no test has run' : '';
  return `${passes} passed, ${failures} failed${skipped.length > 0 ? `, ${skipped.length} skipped (${reasons})` : ''}${nothing}`;
}

/** Rewrites the places in an error and in its causes. */
function tellPlaces(error: Error): void {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const [message, stack] = [withSources(at.message), withSources(at.stack ?? '')];
    // Some errors do not let theirs be changed.
    try {
      Object.assign(at, { message, stack });
    } catch {
      return;
    }
  }
}
