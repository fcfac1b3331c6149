// The way of the fleet from one deployment to the next: begun, and then settled or taken back.

import type { Config } from '../config/load.js';
import type { ModelVersions } from '../ipc/messages.js';
import type { Deployment } from './deployment.js';

interface UnderWay {
  readonly before: Deployment;
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

export class Rollout {
  #wanted: Deployment;
  #revisions = 1;
  #underWay: UnderWay | null = null;

  constructor(config: Config, versions: ModelVersions) {
    this.#wanted = { revision: 1, config, versions };
  }

  /** What every worker should have. */
  get wanted(): Deployment {
    return this.#wanted;
  }

  get isUnderWay(): boolean {
    return this.#underWay !== null;
  }

  /** Resolves when all workers have it; rejects when one of them could not start with it and all is as before. */
  begin(config: Config, versions: ModelVersions): Promise<void> {
    if (this.#underWay !== null) throw new Error('a reload is under way');
    return new Promise((resolve, reject) => {
      this.#underWay = { before: this.#wanted, resolve, reject };
      this.#wanted = { revision: ++this.#revisions, config, versions };
    });
  }

  /** Models were reloaded in place: workers that start from now on have these versions, too. */
  setVersions(versions: ModelVersions): void {
    this.#wanted = { ...this.#wanted, versions };
  }

  /** Every worker has what is wanted. */
  settled(): void {
    this.#underWay?.resolve();
    this.#underWay = null;
  }

  /** A worker could not start with it: workers that have it already go back to the one before. */
  takeBack(reason: string): void {
    if (this.#underWay === null) return;
    this.#wanted = this.#underWay.before;
    this.#underWay.reject(new Error(reason));
    this.#underWay = null;
  }
}
