// The live page in a real browser.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect } from 'chai';
import type { Browser, Page } from 'playwright-core';
import type { WorkerRecord } from '#src/metrics/snapshot.js';
import { RedisPublisher } from '#src/metrics/transport/redis.js';
import { complaintsOf, hasBrowser, openBrowser, screenshots } from '../support/browser.js';
import { Authority } from '../support/certificates.js';
import { startNode, TestAggregator } from '../support/cluster.js';
import { Load } from '../support/load.js';
import { hasNginx, startNginx } from '../support/nginx.js';
import { endProcesses, freePort } from '../support/processes.js';
import { nodeRecord, workerRecord } from '../support/records.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { fetchMetrics, TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('the live page', function () {
  this.timeout(60_000);
  let browser: Browser;
  let page: Page;
  let complaints: readonly string[];
  const loads: Load[] = [];

  before(async function () {
    if (!hasBrowser) this.skip();
    browser = await openBrowser();
  });
  after(() => browser?.close());
  afterEach(async () => {
    await page?.close();
    for (const load of loads.splice(0)) load.destroy();
    await endProcesses();
  });

  async function open(url: string, options: Parameters<Browser['newPage']>[0] = {}): Promise<void> {
    page = await browser.newPage({ viewport: { width: 1440, height: 900 }, ...options });
    complaints = complaintsOf(page);
    await page.goto(url);
  }
  const text = (selector: string): Promise<string> => page.locator(selector).first().innerText();
  const shows = (what: string, selector: string, pattern: RegExp): Promise<true> =>
    until(what, async () => pattern.test(await text(selector)) || undefined) as Promise<true>;
  const tile = (label: string): string => `.tile:has(dt:text-is("${label}")) dd`;

  it('shows true numbers while clients send, and complains of nothing', async () => {
    const server = startNode({});
    const port = await server.port();
    const url = await server.url();
    const load = new Load(() => [port], { connections: 6 });
    loads.push(load);
    await load.more(2000);
    await open(url);
    await shows('the connections', tile('Connections'), /^6\n/);
    await shows('the workers', tile('Workers'), /^2 of 2/);
    await shows('its health', '.health', /Healthy/);
    await shows('that it is live', '.connection', /Live/);
    const rows = page.locator('section[aria-label="Workers"] tbody tr');
    expect(await rows.count()).to.equal(2);
    await load.stop();
    const { total_requests, workers } = await server.metricsWhen(
      'all requests',
      (metrics) => metrics.total_requests === load.replies,
    );
    await shows('the total', tile('Requests/s'), new RegExp(`^0\\n${shortCount(total_requests)} in all`));
    for (const { pid } of workers)
      expect(await rows.allInnerTexts()).to.satisfy((all: string[]) => all.some((row) => row.includes(String(pid))));
    server.signal('SIGUSR2');
    await shows('the reload', '.events li', /was reloaded/);
    expect(complaints).to.deep.equal([]);
    const headers = (await fetch(url)).headers;
    expect(headers.get('content-security-policy'))
      .to.match(/^default-src 'none';script-src 'self';/)
      .and.not.to.include('unsafe');
  });

  it('asks for the token, and with it shows everything, live', async () => {
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '2', HTTP_TOKEN: 'open-sesame' } });
    await open(await server.url());
    await page.screenshot({ path: `${screenshots}/login.png` });
    await page.getByLabel('Token').fill('wrong');
    expect(await page.getByRole('alert').isVisible()).to.equal(false);
    await page.getByRole('button').click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Token').fill('open-sesame');
    await page.getByRole('button').click();
    await shows('that it is live', '.connection', /Live/);
    await shows('the workers', tile('Workers'), /^2 of 2/);
    const unasked = complaints.filter((complaint) => !/401/.test(complaint));
    expect(unasked).to.deep.equal([]);
  });

  it('is live under a path behind nginx with TLS, also when the path is opened without its slash', async function () {
    if (!hasNginx) this.skip(); // nginx is not installed
    const server = new TestServer({ env: { MODEL: 'dummy', WORKERS: '2', HTTP_TOKEN: 'open-sesame' } });
    const { certFile, keyFile } = new Authority().issue('nginx');
    const address = await startNginx({
      http: 'map $http_upgrade $upgraded { default upgrade; "" ""; }',
      listen: 'ssl',
      server: `ssl_certificate ${certFile}; ssl_certificate_key ${keyFile};
        location = /ml { proxy_pass ${await server.url()}/; }
        location /ml/ { proxy_pass ${await server.url()}/; proxy_http_version 1.1; proxy_set_header Host $http_host;
          proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded; }`,
    });
    await open(`https://${address}/ml`, { ignoreHTTPSErrors: true });
    await page.getByLabel('Token').fill('open-sesame');
    await page.getByRole('button').click();
    await shows('that it is live', '.connection', /Live/);
    await shows('the workers', tile('Workers'), /^2 of 2/);
    expect(page.url()).to.equal(`https://${address}/ml/`);
    const points = await page.evaluate(async () => (await fetch('api/history')).status);
    expect(points).to.equal(200);
    // What lies beside /ml is asked for before the slash is there.
    expect(complaints.filter((complaint) => !/401|404/.test(complaint))).to.deep.equal([]);
  });

  it('says what refuses it, and what mends that, when a proxy does not pass Host on', async function () {
    if (!hasNginx) this.skip(); // nginx is not installed
    const server = startNode({});
    const upgrade =
      'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;';
    const pass = `proxy_pass ${await server.url()}/;`;
    const address = await startNginx({
      server: `location /a/ { ${pass} ${upgrade} } location /b/ { ${pass} proxy_set_header Host $http_host; }
        location /c/ { ${pass} } location /c/socket.io/ { return 404; }`,
    });
    await open(`http://${address}/a/`);
    await shows(
      'the reason',
      '.connection',
      new RegExp(
        `Refused: a page of http://${address} may not look at .*nginx: proxy_set_header Host .*http.corsOrigins`,
      ),
    );
    await page.screenshot({ path: `${screenshots}/refused.png` });
    await page.goto(`http://${address}/b/`);
    await shows('that polling does where WebSocket does not pass', '.connection', /Live/);
    await shows('the workers', tile('Workers'), /^2 of 2/);
    await page.goto(`http://${address}/c/`);
    await shows(
      'who refuses it',
      '.connection',
      /Refused: \/c\/socket.io\/ is answered with 404 by something in between/,
    );
  });

  it('is small, and there in less than a second', async () => {
    const server = startNode({});
    await open(await server.url());
    await shows('numbers', tile('Workers'), /^2 of 2/);
    const { bytes, firstPaintMs } = await page.evaluate(() => {
      const entries = performance.getEntriesByType('resource') as PerformanceResourceTiming[];
      const [navigation] = performance.getEntriesByType('navigation') as PerformanceNavigationTiming[];
      const files = entries.filter(({ name }) => !name.includes('/api/'));
      const [paint] = performance.getEntriesByName('first-contentful-paint');
      return {
        bytes: files.reduce((sum, { transferSize }) => sum + transferSize, navigation?.transferSize ?? 0),
        firstPaintMs: paint?.startTime ?? 0,
      };
    });
    expect(bytes).to.be.within(10_000, 150_000);
    expect(firstPaintMs).to.be.within(1, 1000);
  });

  it('says how old its numbers are when Redis stops, and when the aggregator is gone; and comes back by itself', async () => {
    const redis = await RedisServer.start();
    const env = { REDIS_URL: redis.url };
    const node = startNode(env);
    await node.event('ready');
    const port = await freePort();
    let aggregator = await TestAggregator.start(env, port);
    await open(aggregator.url);
    await shows('that it is live', '.connection', /Live/);
    redis.signal('SIGSTOP');
    await shows('that it is stale', '.connection', /Stale: the cluster cannot be read; these numbers are \d+ s old/);
    expect(await page.title()).to.include('stale');
    await page.screenshot({ path: `${screenshots}/stale.png` });
    redis.signal('SIGCONT');
    await shows('that it is live again', '.connection', /Live/);
    await shows('why', '.events', /metrics can be read again/);
    aggregator.signal('SIGKILL');
    await aggregator.ended();
    await shows('that it is gone', '.connection', /aggregator is gone; these numbers are \d+ s old/);
    aggregator = await TestAggregator.start(env, port);
    await shows('that it is live once more', '.connection', /Live/);
    await shows('the workers', tile('Workers'), /^2 of 2/);
  });

  it('marks what is wrong: a worker that died, a sick one among many', async () => {
    const server = startNode({ WORKERS: '3' });
    await server.event('ready');
    await open(await server.url());
    await shows('the workers', tile('Workers'), /^3 of 3/);
    const [victim] = await server.workerPids();
    process.kill(victim as number, 'SIGKILL');
    await shows('the death', '.events', /a worker of .* died/);
    await shows('the replacement', tile('Workers'), /^3 of 3\n1 replaced/);
  });

  it('keeps a selection and the place scrolled to, while numbers change', async () => {
    const server = startNode({ WORKERS: '2' });
    const port = await server.port();
    const load = new Load(() => [port], { connections: 2 });
    loads.push(load);
    await open(await server.url(), { viewport: { width: 390, height: 700 } });
    await shows('the workers', tile('Workers'), /^2 of 2/);
    const scrolled = await page.evaluate(() => {
      window.scrollTo(0, 600);
      const table = document.querySelector('section[aria-label="Workers"]') as HTMLElement;
      table.scrollLeft = 120;
      const cell = document.querySelector('section[aria-label="Workers"] tbody td') as HTMLElement;
      document.getSelection()?.selectAllChildren(cell);
      return { y: window.scrollY, x: table.scrollLeft, text: document.getSelection()?.toString() };
    });
    await load.more(5000);
    const after = await page.evaluate(() => ({
      y: window.scrollY,
      x: (document.querySelector('section[aria-label="Workers"]') as HTMLElement).scrollLeft,
      text: document.getSelection()?.toString(),
    }));
    expect(after).to.deep.equal(scrolled);
    expect(after.text).not.to.equal('');
    const isNarrow = await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
    expect(isNarrow, 'the page fits the width of a phone').to.equal(true);
  });

  it('stays smooth with 500 workers', async () => {
    const redis = await RedisServer.start();
    const aggregator = await TestAggregator.start({ REDIS_URL: redis.url });
    const publisher = new RedisPublisher(redisSettings(redis.url, { keyPrefix: 'mltcp' }), 'default', () => {});
    let isOver = false;
    const publishing = (async () => {
      for (let sequence = 1; !isOver; sequence++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        // It fails until Redis is connected; the next one says it all again.
        await publisher.publish({ record: nodeRecord({ sequence, workersWanted: 500 }), retires: [] }).catch(() => {});
        for (let slot = 0; slot < 500 && !isOver; slot += 25) {
          const records = Array.from({ length: 25 }, (_, i) => fakeWorker(slot + i, sequence));
          await Promise.allSettled(records.map((record) => publisher.publish({ record, retires: [] })));
        }
      }
    })();
    try {
      await open(aggregator.url);
      await shows('all workers', tile('Workers'), /^500 of 500/);
      const longestMs = await page.evaluate(async () => {
        let longest = 0;
        new PerformanceObserver((list) => {
          for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
        }).observe({ type: 'longtask' });
        await new Promise((resolve) => setTimeout(resolve, 4000));
        return longest;
      });
      expect(longestMs).to.be.below(400);
      await shows('the sick one', 'section[aria-label="Workers"] caption', /worker 77 of a \(loop delay\)/);
      await page.screenshot({ path: `${screenshots}/500-workers.png` });
      expect(complaints).to.deep.equal([]);
    } finally {
      isOver = true;
      await publishing;
      await publisher.close();
    }
  });

  for (const scheme of ['light', 'dark'] as const) {
    it(`has nothing that an accessibility check calls serious (${scheme}); screenshots are kept`, async () => {
      const server = startNode({});
      const port = await server.port();
      const load = new Load(() => [port]);
      loads.push(load);
      await load.more(5000);
      for (const [name, viewport] of [
        ['desktop', { width: 1440, height: 900 }],
        ['phone', { width: 390, height: 844 }],
      ] as const) {
        await open(await server.url(), { colorScheme: scheme, viewport });
        await shows('the workers', tile('Workers'), /^2 of 2/);
        await page.evaluate(axe);
        const violations = await page.evaluate(async () => {
          const { axe: check } = window as unknown as {
            axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
          };
          return (await check.run()).violations;
        });
        const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
        expect(serious.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).to.deep.equal([]);
        await page.screenshot({ path: `${screenshots}/${name}-${scheme}.png`, fullPage: true });
        if (name === 'desktop') await page.close();
      }
      expect(complaints).to.deep.equal([]);
      expect((await fetchMetrics(await server.url())).audit_imbalance).to.equal(0);
    });
  }
});

/** As the page writes it. */
function shortCount(value: number): string {
  if (value < 10_000) return String(value);
  return value < 1e6 ? `${(value / 1e3).toPrecision(3)}k` : `${(value / 1e6).toPrecision(3)}M`;
}

function fakeWorker(slot: number, sequence: number): WorkerRecord {
  const record = workerRecord({ slot, incarnation: slot + 1, sequence });
  const gauges = { ...record.gauges, connections: slot % 7, cpuShare: (slot % 10) / 100, rssBytes: 1e8 + slot * 1e5 };
  return { ...record, gauges: slot === 77 ? { ...gauges, eventLoopDelayP99Ms: 900 } : gauges };
}
