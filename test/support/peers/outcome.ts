/** How one thing went: `differs` is told in words, and no fault; a suite that cannot run says why. */
export interface Outcome {
  readonly name: string;
  readonly result: 'passed' | 'failed' | 'differs' | 'skipped';
  readonly why: string;
}

export const passed = (name: string, why = ''): Outcome => ({ name, result: 'passed', why });
export const failed = (name: string, why: string): Outcome => ({ name, result: 'failed', why });
export const skipped = (why: string): readonly Outcome[] => [{ name: '', result: 'skipped', why }];

/** What fails as it is known to: another opinion of theirs, or what we do not have. */
export function known(outcome: Outcome, differences: Readonly<Record<string, string>>): Outcome {
  const why = differences[outcome.name];
  if (why === undefined || outcome.result === 'skipped') return outcome;
  return outcome.result === 'failed'
    ? { ...outcome, result: 'differs', why }
    : failed(outcome.name, `it passes by now: take it off the list of what differs (${why})`);
}
