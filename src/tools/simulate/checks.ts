// What the simulated clients send, and how they tell whether a reply is right.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { packageRoot } from '../../config/load.js';

/** The verdict on a reply: `wrong` if it is not the model's reply to this payload. */
export type Verdict =
  | { readonly kind: 'wrong' }
  | {
      readonly kind: 'right' /** Null where there is no truth to compare with. */;
      readonly isAccurate: boolean | null;
    };

export interface Check {
  readonly payload: Buffer;
  judge(reply: Buffer): Verdict;
}

interface HeldOut {
  readonly samples: readonly {
    readonly label: number;
    readonly predicted: number;
    readonly pixels: readonly number[];
  }[];
}

/**
 * The held-out digits: a right reply is ten probabilities, the largest for the class that the model is known to
 * predict.
 */
export function digitChecks(): readonly Check[] {
  const file = resolve(packageRoot, 'config/models/digits/held-out.json');
  const { samples } = JSON.parse(readFileSync(file, 'utf8')) as HeldOut;
  return samples.map(({ label, predicted, pixels }) => ({
    payload: floatsToBytes(pixels),
    judge: (reply) => {
      const digit = likeliest(reply);
      return digit === predicted ? { kind: 'right', isAccurate: digit === label } : { kind: 'wrong' };
    },
  }));
}

/** What is sent to models other than the digits model. */
export type Payloads =
  | { readonly kind: 'random' | 'zeros'; readonly size: number }
  | { readonly kind: 'given'; readonly bytes: Buffer };

/** There is no ground truth to compare with: any reply that is not empty is right. */
export function payloadChecks(payloads: Payloads): readonly Check[] {
  return payloadsOf(payloads).map((payload) => ({
    payload,
    judge: () => ({ kind: 'right', isAccurate: null }) as const,
  }));
}

function payloadsOf(payloads: Payloads): readonly Buffer[] {
  switch (payloads.kind) {
    case 'random':
      return Array.from({ length: 64 }, () => randomBytes(payloads.size));
    case 'zeros':
      return [Buffer.alloc(payloads.size)];
    case 'given':
      return [payloads.bytes];
  }
}

function floatsToBytes(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => {
    bytes.writeFloatLE(value, i * 4);
  });
  return bytes;
}

/** Index of the largest of ten float32 probabilities, or null when the reply is not ten probabilities. */
function likeliest(reply: Buffer): number | null {
  if (reply.length !== 40) return null;
  const probabilities = Array.from({ length: 10 }, (_, i) => reply.readFloatLE(i * 4));
  const sum = probabilities.reduce((total, probability) => total + probability, 0);
  return Math.abs(sum - 1) < 1e-3 ? probabilities.indexOf(Math.max(...probabilities)) : null;
}
