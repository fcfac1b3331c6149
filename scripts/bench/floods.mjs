// What well-behaved clients feel of floods, and what those cost the server: the floods are those of the tests.

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
