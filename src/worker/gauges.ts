// How this worker process is at this moment: memory, processor time, event loop.

import type { WorkerGauges } from '../metrics/snapshot.js';

type ProcessGauges = Pick<WorkerGauges, 'rssBytes' | 'cpuSeconds' | 'cpuShare' | 'eventLoopUtilization'>;

/** Each call measures since the call before. */
export function createProcessGauges(): () => ProcessGauges {
  let at = performance.now();
  let cpuSeconds = cpuSecondsNow();
  let loop = performance.eventLoopUtilization();
  return () => {
    const now = performance.now();
    const cpuNow = cpuSecondsNow();
    const loopNow = performance.eventLoopUtilization();
    const elapsedSeconds = (now - at) / 1000;
    const gauges = {
      rssBytes: process.memoryUsage.rss(),
      cpuSeconds: cpuNow,
      cpuShare: elapsedSeconds > 0 ? (cpuNow - cpuSeconds) / elapsedSeconds : 0,
      eventLoopUtilization: performance.eventLoopUtilization(loopNow, loop).utilization,
    };
    [at, cpuSeconds, loop] = [now, cpuNow, loopNow];
    return gauges;
  };
}

function cpuSecondsNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
