// Shows the progress of the simulation: a bar on a terminal, a plain line every second where the output is piped.

import cliProgress from 'cli-progress';

export interface Progress {
  update(done: number): void;
  stop(): void;
}

export function createProgress(total: number): Progress {
  return process.stdout.isTTY ? createBar(total) : createLines(total);
}

function createBar(total: number): Progress {
  const bar = new cliProgress.SingleBar(
    { format: '{bar} {percentage} % | {value} of {total} requests | {eta} s left', fps: 10 },
    cliProgress.Presets.shades_classic,
  );
  bar.start(total, 0);
  return {
    update: (done) => bar.update(done),
    stop: () => bar.stop(),
  };
}

function createLines(total: number): Progress {
  let printedAt = performance.now();
  return {
    update: (done) => {
      if (performance.now() - printedAt < 1000) return;
      printedAt = performance.now();
      console.log(`${done} of ${total} requests`);
    },
    stop: () => {},
  };
}
