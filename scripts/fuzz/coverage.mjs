// Which blocks of code have run, and about how often, as V8 counts it: Profiler.takePreciseCoverage of the inspector
// protocol, asked from inside the process.

import { Session } from 'node:inspector';

export class Coverage {
  #session = new Session();
  #covers;
  /** Blocks with the magnitude of their counts. */
  #seen = new Set();

  /** @param covers tells by a file's URL whether the file counts */
  constructor(covers) {
    this.#covers = covers;
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  get size() {
    return this.#seen.size;
  }

  /** Whether anything new has run; does not mark it as known. */
  hasNews() {
    return this.#take().some((place) => !this.#seen.has(place));
  }

  /** Whether anything new has run; marks it as known. */
  takeNews() {
    const before = this.#seen.size;
    for (const place of this.#take()) this.#seen.add(place);
    return this.#seen.size > before;
  }

  #take() {
    const { result } = this.#post('Profiler.takePreciseCoverage');
    return result
      .filter(({ url }) => this.#covers(url))
      .flatMap(({ url, functions }) =>
        functions.flatMap(({ ranges }) =>
          ranges
            .filter(({ count }) => count > 0)
            .map(({ startOffset, endOffset, count }) => `${url}:${startOffset}:${endOffset}:${Math.clz32(count)}`),
        ),
      );
  }

  /** The inspector answers before this call returns. */
  #post(method, parameters = {}) {
    let answer;
    this.#session.post(method, parameters, (error, result) => {
      if (error) throw new Error(`${method}: ${error.message}`);
      answer = result;
    });
    return answer;
  }
}
