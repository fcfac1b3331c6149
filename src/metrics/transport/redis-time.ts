/** 50 ms, doubling up to 2 s, each cut by up to half at random, so that a thousand workers do not return at once. */
export const backOffMs = (attempt: number): number =>
  Math.min(50 * 2 ** Math.min(attempt, 6), 2000) * (0.5 + Math.random() / 2);
