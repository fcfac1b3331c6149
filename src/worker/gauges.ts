// The state of this worker process: memory, processor time, event loop.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { WorkerGauges } from '../metrics/snapshot.js';

type ProcessGauges = Pick<
  WorkerGauges,
  'rssBytes' | 'cpuSeconds' | 'cpuShare' | 'eventLoopUtilization' | 'eventLoopDelayP99Ms'
>;

/** How often Node checks how late its timers are. */
const delayResolutionMs = 10;
const delayWindowMs = 5000;

/** Each call measures the time since the call before. */
export function createProcessGauges(): () => ProcessGauges {
  let at = performance.now();
  let cpuSeconds = cpuSecondsNow();
  let loop = performance.eventLoopUtilization();
  let rssBytes = 0;
  const delayP99Ms = createDelayGauge();
  return () => {
    const now = performance.now();
    const cpuNow = cpuSecondsNow();
    const loopNow = performance.eventLoopUtilization();
    const elapsedSeconds = (now - at) / 1000;
    rssBytes = residentBytes() ?? rssBytes;
    const gauges = {
      rssBytes,
      cpuSeconds: cpuNow,
      cpuShare: elapsedSeconds > 0 ? (cpuNow - cpuSeconds) / elapsedSeconds : 0,
      eventLoopUtilization: performance.eventLoopUtilization(loopNow, loop).utilization,
      eventLoopDelayP99Ms: delayP99Ms(now),
    };
    [at, cpuSeconds, loop] = [now, cpuNow, loopNow];
    return gauges;
  };
}

/**
 * The 99th percentile over the last 5 to 10 seconds: a gauge of the last moment alone would miss most of what happens.
 */
function createDelayGauge(): (now: number) => number {
  let older = startDelayHistogram();
  let newer = startDelayHistogram();
  let rotatedAt = performance.now();
  return (now) => {
    if (now - rotatedAt > delayWindowMs) {
      older.reset();
      [older, newer, rotatedAt] = [newer, older, now];
    }
    // Node measures the time from one check to the next: the planned pause between two is not a delay.
    return Math.max(0, older.percentile(99) / 1e6 - delayResolutionMs);
  };
}

function startDelayHistogram(): IntervalHistogram {
  const histogram = monitorEventLoopDelay({ resolution: delayResolutionMs });
  histogram.enable();
  return histogram;
}

/** Null when it cannot be read: Node reads a file for it, and this process may have no descriptor left. */
function residentBytes(): number | null {
  try {
    return process.memoryUsage.rss();
  } catch {
    return null;
  }
}

function cpuSecondsNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
