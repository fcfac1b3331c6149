// Hashes of the files of the served models: `reload --models` finds a replaced file by its hash where the file system
// does not show the change (times that stand still, inodes that repeat).

import { contentOf } from '../../inference/model-files.js';
import type { ModelVersion } from '../../inference/versions.js';
import type { ModelVersions } from '../../ipc/messages.js';

export class ModelContents {
  #known = new Map<string, Known>();
  /** Passes run one after the other, so that each compares with what the previous one has read. */
  #last: Promise<unknown> = Promise.resolve();

  /** Reads the contents of these versions, one after the other, unless they are known. */
  async learn(versions: ModelVersions): Promise<void> {
    await this.#pass(versions, false);
  }

  /** The versions to send to workers: one whose content differs from what was known gets another identity. */
  compared(versions: ModelVersions): Promise<ModelVersions> {
    return this.#pass(versions, true);
  }

  /** The versions with what is known of their contents, without reading them. */
  labelled(versions: ModelVersions): ModelVersions {
    return Object.fromEntries(
      Object.entries(versions).map(([name, version]) => [name, labelled(version, this.#known.get(keyOf(version)))]),
    );
  }

  #pass(versions: ModelVersions, isAgain: boolean): Promise<ModelVersions> {
    const pass = this.#last.then(async () => {
      const seen: [string, ModelVersion][] = [];
      for (const [name, version] of Object.entries(versions)) seen.push([name, await this.#compare(version, isAgain)]);
      const current = new Set(Object.values(versions).map(keyOf));
      this.#known = new Map([...this.#known].filter(([key]) => current.has(key)));
      return Object.fromEntries(seen);
    });
    this.#last = pass;
    return pass;
  }

  async #compare(version: ModelVersion, isAgain: boolean): Promise<ModelVersion> {
    const key = keyOf(version);
    const before = this.#known.get(key);
    if (version.identity === '' || (before !== undefined && !isAgain)) return labelled(version, before);
    // A file that cannot be read is left to the process that loads it.
    const content = await contentOf(version.path).catch(() => null);
    if (content === null) return labelled(version, before);
    const isSame = before === undefined || before.content === content;
    const known = { content, replacements: (before?.replacements ?? 0) + (isSame ? 0 : 1) };
    this.#known.set(key, known);
    return labelled(version, known);
  }
}

interface Known {
  readonly content: string;
  /** How often the content changed while the file seemed to be the same. */
  readonly replacements: number;
}

const keyOf = ({ path, identity }: ModelVersion): string => `${identity} ${path}`;

function labelled(version: ModelVersion, known: Known | undefined): ModelVersion {
  if (known === undefined || known.replacements === 0) return version;
  return { ...version, identity: `${version.identity}#${known.replacements}` };
}
