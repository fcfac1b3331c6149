// The totals that the server reports.

export interface Totals {
  readonly requests: number;
  readonly errors: number;
}

export interface MetricsSource {
  readonly url: string;
  /** Empty: the server requires none. */
  readonly token: string;
}

/** Counters are published periodically: so long after the last reply, they must have arrived. */
const settleMs = 5000;
const pollMs = 100;

/** Null when the metrics cannot be read. */
export async function readTotals({ url, token }: MetricsSource): Promise<Totals | null> {
  try {
    const authorization = token === '' ? {} : { authorization: `Bearer ${token}` };
    const headers = { accept: 'application/json', ...authorization };
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(5000) });
    const metrics = (await response.json()) as { total_requests: number; errors: number };
    return { requests: metrics.total_requests, errors: metrics.errors };
  } catch {
    return null;
  }
}

/** What was counted since `before`: as soon as it reaches `expected` requests, else after `settleMs`. */
export async function waitForTotals(source: MetricsSource, before: Totals, expected: number): Promise<Totals | null> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const now = await readTotals(source);
    const counted = now && { requests: now.requests - before.requests, errors: now.errors - before.errors };
    if ((counted !== null && counted.requests >= expected) || performance.now() > deadline) return counted;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
