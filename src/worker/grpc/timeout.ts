// The header grpc-timeout: at most 8 digits and a unit.

const microseconds: Readonly<Record<string, number>> = { H: 3.6e9, M: 6e7, S: 1e6, m: 1e3, u: 1, n: 1e-3 };

/** The time that a client gives a call, in microseconds; 0: no limit; null: it is no time. */
export function timeoutUs(header: string | undefined): number | null {
  if (header === undefined) return 0;
  if (!/^\d{1,8}[HMSmun]$/.test(header)) return null;
  const value = Number(header.slice(0, -1)) * (microseconds[header.slice(-1)] as number);
  // Even no time at all is a limit: 0 would be none.
  return Math.max(1, Math.floor(value));
}
