// The change of the fleet from one deployment to the next: begun, and then settled or taken back.

import type { Config } from '../../config/load.js';
import type { ModelVersions } from '../../ipc/messages.js';
import type { Deployment } from '../deployment.js';

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

  /** The deployment that every worker should have. */
  get wanted(): Deployment {
    return this.#wanted;
  }

  get isUnderWay(): boolean {
    return this.#underWay !== null;
  }

  /**
   * Resolves when all workers have it; rejects when one of them could not start with it and the previous deployment is
   * wanted again.
   */
  begin(config: Config, versions: ModelVersions): Promise<void> {
    if (this.#underWay !== null) throw new Error('a reload is under way');
    return new Promise((resolve, reject) => {
      this.#underWay = { before: this.#wanted, resolve, reject };
      this.#wanted = { revision: ++this.#revisions, config, versions };
    });
  }

  /** Models were reloaded in place: workers that start from now on get these versions, too. */
  setVersions(versions: ModelVersions): void {
    this.#wanted = { ...this.#wanted, versions };
  }

  /** Every worker has the wanted deployment. */
  settled(): void {
    this.#underWay?.resolve();
    this.#underWay = null;
  }

  /** A worker could not start with it: workers that already have it go back to the previous deployment. */
  takeBack(reason: string): void {
    if (this.#underWay === null) return;
    this.#wanted = this.#underWay.before;
    this.#underWay.reject(new Error(reason));
    this.#underWay = null;
  }
}
