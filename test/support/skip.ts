// A test that cannot run here says what is missing: the reporter prints that beside its name and counts it in the last
// line. `this.skip()` alone gives no reason.

const reasons = new WeakMap<object, string>();

/** In a test, or in a `before` for all tests of its `describe`. `why` continues the sentence "skipped: …". */
export function skip(context: Mocha.Context, why: string): never {
  // The current hook, if there is one, otherwise the test.
  const runnable = context.runnable() as unknown as Mocha.Runnable & { readonly type: string };
  const isForAll = runnable.type === 'hook' && /^"before all"/.test(runnable.title);
  const skipped = isForAll ? runnable.parent : runnable.type === 'hook' ? context.currentTest : runnable;
  if (skipped) reasons.set(skipped, why);
  return context.skip() as never;
}

/** Why the test, or a suite around it, was skipped. */
export function whySkipped(test: Mocha.Test): string | null {
  for (let at: Mocha.Test | Mocha.Suite | undefined = test; at !== undefined; at = at.parent) {
    const why = reasons.get(at);
    if (why !== undefined) return why;
  }
  return null;
}
