// Clients of every protocol that keep one model busy, check each answer, and count for themselves.

import { until } from '../until.js';
import { Lost, Refused, type Request, type TypedClient } from './client.js';
import { typedNames, typedProtocols } from './protocols.js';
import { RawFrames } from './raw-frames.js';

export const mixedNames = ['raw frames', ...typedNames] as const;
export type MixedName = (typeof mixedNames)[number];

/** Of one protocol. */
export interface Count {
  answers: number;
  /** Sent on connections that ended before the answer came. */
  lost: number;
  readonly refusals: Map<string, number>;
  /** Answers that were wrong. */
  readonly faults: string[];
}

const depth = 4;

export interface MixedPorts {
  readonly frames: number;
  readonly calls: number;
  readonly open: number;
}

export class MixedLoad {
  readonly counts = new Map<MixedName, Count>();
  readonly #loops: Promise<void>[] = [];
  readonly #clients: TypedClient[] = [];
  #isOver = false;

  /**
   * @param requestAt the i-th request, each of its own; raw frames take those of one row alone
   * @param isRight whether an answer is that of the request
   */
  constructor(
    ports: MixedPorts,
    requestAt: (i: number, isOneRow: boolean) => Request,
    isRight: (request: Request, answer: readonly Buffer[]) => boolean,
    connections = 2,
  ) {
    for (const name of mixedNames) {
      const count: Count = { answers: 0, lost: 0, refusals: new Map(), faults: [] };
      this.counts.set(name, count);
      for (let i = 0; i < connections; i++) {
        const client = open(name, ports);
        this.#clients.push(client);
        for (let k = 0; k < depth; k++) this.#loops.push(this.#loop(client, name, count, requestAt, isRight));
      }
    }
  }

  get answers(): number {
    return this.#sum(({ answers }) => answers);
  }

  get lost(): number {
    return this.#sum(({ lost }) => lost);
  }

  get faults(): readonly string[] {
    return [...this.counts].flatMap(([name, { faults }]) => faults.map((fault) => `${name}: ${fault}`));
  }

  get refusals(): readonly string[] {
    return [...this.counts].flatMap(([name, { refusals }]) =>
      [...refusals].map(([code, times]) => `${name}: ${times} × ${code}`),
    );
  }

  /** Resolves when each protocol has this many more answers. */
  async more(answers: number): Promise<void> {
    const wanted = new Map([...this.counts].map(([name, count]) => [name, count.answers + answers]));
    await until(`${answers} more answers of each protocol`, () =>
      [...this.counts].every(([name, count]) => count.answers >= (wanted.get(name) as number)),
    );
  }

  /** Lets every request be answered, and closes. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#loops);
    for (const client of this.#clients) client.close();
  }

  /** Asks no more, and waits for nothing. */
  destroy(): void {
    this.#isOver = true;
    for (const client of this.#clients) client.close();
  }

  #sum(of: (count: Count) => number): number {
    return [...this.counts.values()].reduce((sum, count) => sum + of(count), 0);
  }

  async #loop(
    client: TypedClient,
    name: MixedName,
    count: Count,
    requestAt: (i: number, isOneRow: boolean) => Request,
    isRight: (request: Request, answer: readonly Buffer[]) => boolean,
  ): Promise<void> {
    const first = this.#loops.length * 1_000_000;
    for (let i = 0; !this.#isOver; i++) {
      const request = requestAt(first + i, name === 'raw frames');
      try {
        const answer = (await client.ask(request)).map(({ data }) => data);
        count.answers++;
        if (!isRight(request, answer)) count.faults.push(`request ${first + i} has a wrong answer`);
      } catch (error) {
        if (error instanceof Lost) count.lost++;
        else if (error instanceof Refused)
          count.refusals.set(error.message, (count.refusals.get(error.message) ?? 0) + 1);
        else throw error;
      }
    }
  }
}

function open(name: MixedName, ports: MixedPorts): TypedClient {
  if (name === 'raw frames') return new RawFrames(ports.frames);
  const { listener, open: opens } = typedProtocols[name];
  return opens(ports[listener]);
}
