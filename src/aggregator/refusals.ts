// How often this aggregator has refused or dropped a client of its own, and why.

export const refusalReasons = [
  'token',
  'origin',
  'rate',
  'size',
  'connections',
  'timeout',
  'live_clients',
  'slow',
  'silent',
] as const;

export type RefusalReason = (typeof refusalReasons)[number];

export type Refusals = Record<RefusalReason, number>;

export function noRefusals(): Refusals {
  return Object.fromEntries(refusalReasons.map((reason) => [reason, 0])) as Refusals;
}
