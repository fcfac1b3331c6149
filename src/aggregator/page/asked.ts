// What the page asks for again and again as long as somebody looks, since it is no part of the live feed.

import { useEffect, useState } from 'preact/hooks';

/** Null: there has been no answer yet. `failed`: there was none to the first request. */
export type Answer<T> = T | 'failed' | null;

/** How soon who looks sees what has changed. */
const refreshMs = 3000;

/** Returns a hook; the same requests serve all who use it. */
export function asking<T>(path: string): () => Answer<T> {
  const watchers = new Set<(answer: Answer<T>) => void>();
  let last: Answer<T> = null;
  let timer: ReturnType<typeof setInterval> | undefined;

  async function ask(): Promise<void> {
    try {
      const response = await fetch(path);
      if (!response.ok) throw new Error(`status ${response.status}`);
      last = (await response.json()) as T;
    } catch {
      last ??= 'failed'; // what was known is still of use; the head of the page says that the aggregator is gone
    }
    for (const tell of watchers) tell(last);
  }

  return () => {
    const [answer, setAnswer] = useState<Answer<T>>(last);
    useEffect(() => {
      watchers.add(setAnswer);
      if (timer === undefined) {
        void ask();
        timer = setInterval(ask, refreshMs);
      }
      return () => {
        watchers.delete(setAnswer);
        if (watchers.size > 0) return;
        clearInterval(timer);
        timer = undefined;
      };
    }, []);
    return answer;
  };
}
