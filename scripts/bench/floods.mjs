// What well-behaved clients notice of floods, and what floods cost the server: the same floods as in the tests.

import { floods as kinds, measureFlood } from '../../build/test/support/flood.js';
import { endProcesses } from '../../build/test/support/processes.js';

export async function floods({ seconds }) {
  const reports = [];
  for (const kind of Object.keys(kinds)) {
    reports.push({ kind, count: kinds[kind].count, ...(await measureFlood(kind, 2 * seconds)) });
    await endProcesses();
  }
  return reports;
}
