// Takes the picture of the live page that the README shows, from a real run: `node scripts/screenshot.mjs`.
// Needs Chromium.

import { spawn } from 'node:child_process';
import { build, install, root, runTool } from './prepare.mjs';

install();
build();
runTool('typescript', ['--build', 'test/tsconfig.json']);
const { openBrowser } = await import(`${root}build/test/support/browser.js`);
const { TestServer } = await import(`${root}build/test/support/server.js`);
const { endProcesses } = await import(`${root}build/test/support/processes.js`);

const server = new TestServer({ env: { NODE_NAME: 'machine-1', WORKERS: '3' } });
const [port, url] = [await server.port(), await server.url()];
const simulation = ['simulate', '--port', String(port), '--metrics', `${url}/metrics`, '--clients', '24'];
const load = spawn(
  process.execPath,
  [`${root}bundle/cli.js`, ...simulation, '--requests', '10000000', '--rate', '20000'],
  {
    stdio: 'ignore',
  },
);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
await pause(60_000);
server.signal('SIGUSR2');
await pause(20_000);
process.kill((await server.workerPids())[0], 'SIGKILL');
await pause(15_000);
const browser = await openBrowser();
const page = await browser.newPage({ viewport: { width: 1440, height: 760 }, colorScheme: 'light' });
await page.goto(url);
await page.getByRole('button', { name: '1 min' }).click();
await pause(3000);
const chart = await page.locator('.plot').nth(1).boundingBox();
await page.mouse.move(chart.x + 0.35 * chart.width, chart.y + 50);
await pause(500);
await page.screenshot({ path: `${root}scripts/screenshot.png` });
await browser.close();
load.kill();
await endProcesses();
process.exit();
