// What /api/models says, as long as somebody looks: plans are no part of the live feed, since they seldom change.

import { useEffect, useState } from 'preact/hooks';
import type { ServedModels } from '../served-models.js';

/** Null: there has been no answer yet. `failed`: there was none to the first request. */
type Answer = ServedModels | 'failed' | null;

/** A reload changes plans; who has opened a model's row sees it this soon. */
const refreshMs = 3000;

const watchers = new Set<(answer: Answer) => void>();
let last: Answer = null;
let timer: ReturnType<typeof setInterval> | undefined;

/** The same requests serve all rows that are open. */
export function useServedModels(): Answer {
  const [answer, setAnswer] = useState<Answer>(last);
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
}

async function ask(): Promise<void> {
  try {
    const response = await fetch('api/models');
    if (!response.ok) throw new Error(`status ${response.status}`);
    last = (await response.json()) as ServedModels;
  } catch {
    last ??= 'failed'; // what was known is still of use; the head of the page says that the aggregator is gone
  }
  for (const tell of watchers) tell(last);
}
