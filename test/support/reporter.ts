// Mocha's own summary, and behind it one line that machines can read.

import Mocha from 'mocha';

export default class PlainLineReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    // Such a hook ends what tests of other files have in use.
    const { _beforeAll, _beforeEach, _afterEach, _afterAll } = runner.suite as unknown as Record<string, unknown[]>;
    if ([_beforeAll, _beforeEach, _afterEach, _afterAll].some((hooks) => (hooks ?? []).length > 0))
      throw new Error('a hook outside of every `describe` runs for the tests of all files: move it into one');
  }

  override epilogue(): void {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    console.log(`${passes} passed, ${failures} failed${pending > 0 ? `, ${pending} skipped` : ''}`);
    // Node takes its handles apart when it ends by itself, and spins for ever when one that a test has left half closed
    // never says that it is done. Nothing is to be waited for any more.
    process.once('beforeExit', () => process.exit());
    setTimeout(() => {
      console.error(`a test has left something open: ${process.getActiveResourcesInfo().join(', ')}`);
      process.exit(1);
    }, 10_000).unref();
  }
}
