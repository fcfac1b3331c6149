// The live page in a real browser.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect } from 'chai';
import type { Browser, Page } from 'playwright-core';
import { reportOf } from '#src/inference/model-report.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { noModelCounts } from '#src/metrics/merge.js';
import type { NodeRecord, WorkerRecord } from '#src/metrics/snapshot.js';
import { RedisPublisher } from '#src/metrics/transport/redis.js';
import { NodeRecordKeeper } from '#src/primary/metrics/node-record.js';
import { complaintsOf, hasBrowser, openBrowser, screenshots } from '../support/browser.js';
import { Authority } from '../support/certificates.js';
import { startNode, TestAggregator } from '../support/cluster.js';
import { Load } from '../support/load.js';
import { hasNginx, startNginx } from '../support/nginx.js';
import { hugePlan, imagesPlan, rowPlan, sileroPlan, textPlan } from '../support/plan-examples.js';
import { endProcesses, freePort } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { modelGauges, nodeRecord, workerRecord } from '../support/records.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { fetchMetrics, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('the live page', function () {
  this.timeout(60_000);
  let browser: Browser;
  let page: Page;
  let complaints: readonly string[];
  const loads: Load[] = [];

  before(async function () {
    if (!hasBrowser) skip(this, 'chromium is not installed');
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
    if (!hasNginx) skip(this, 'nginx is not installed (Debian: nginx-light)');
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
    // Until the slash is added, the page asks for files beside /ml.
    expect(complaints.filter((complaint) => !/401|404/.test(complaint))).to.deep.equal([]);
  });

  it('says what refuses it, and what mends that, when a proxy does not pass Host on', async function () {
    if (!hasNginx) skip(this, 'nginx is not installed (Debian: nginx-light)');
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
    const bytes = await page.evaluate(() => {
      const entries = performance.getEntriesByType('resource') as PerformanceResourceTiming[];
      const [navigation] = performance.getEntriesByType('navigation') as PerformanceNavigationTiming[];
      const files = entries.filter(({ name }) => !name.includes('/api/'));
      return files.reduce((sum, { transferSize }) => sum + transferSize, navigation?.transferSize ?? 0);
    });
    expect(bytes).to.be.within(10_000, 150_000);
    // The machine may be busy at one moment or another.
    const paints: number[] = [];
    for (let i = 0; i < 3; i++) {
      if (i > 0) await page.reload();
      paints.push(
        await until('the first paint', () =>
          page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime),
        ),
      );
    }
    expect(Math.min(...paints)).to.be.within(1, 1000);
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
    await shows('its health', '.health', /Healthy/);
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('x'));
    await client.replied(1);
    const { workers } = await server.metricsWhen('its connection', ({ connections }) => connections === 1);
    process.kill(workers.find(({ connections }) => connections > 0)?.pid as number, 'SIGKILL');
    await shows('the death', '.events', /a worker of .* died/);
    await shows('the replacement', tile('Workers'), /^3 of 3\n1 replaced/);
    await shows('that it is not healthy', '.health', /Unhealthy/);
    await shows('why', '.troubles', /^1 connection lost in the last minute with a worker that died$/);
    await shows('where', '.tile.bad dd', /0 refused, 1 lost/);
    await shows('the event', '.events', /lost with a worker of .*: 1 connection/);
  });

  it('shows the values and the events of a moment, in charts of the time that is asked for', async () => {
    const server = startNode({});
    const port = await server.port();
    const load = new Load(() => [port], { connections: 2 });
    loads.push(load);
    page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    complaints = complaintsOf(page);
    await page.addInitScript(() => {
      const { fillText } = CanvasRenderingContext2D.prototype;
      const drawn = new Set<string>();
      Object.assign(window, { drawn });
      CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
        drawn.add(text);
        fillText.call(this, text, ...at);
      };
    });
    await page.goto(await server.url());
    await shows('the workers', tile('Workers'), /^2 of 2/);
    const rates = page.getByRole('img', { name: /^Requests a second, the last 5 min. Now: \d/ });
    await rates.waitFor();
    await page.getByRole('button', { name: '1 min' }).click();
    const latencies = page.getByRole('img', { name: /^Latency, over 10 s, the last 1 min. Now: p99/ });
    await latencies.waitFor();
    expect(await page.getByRole('button', { name: '1 min' }).getAttribute('aria-pressed')).to.equal('true');
    server.signal('SIGUSR2');
    await shows('the reload', '.events', /was reloaded/);
    const { events } = await server.metrics();
    const at = events.findLast(({ text }) => /was reloaded/.test(text))?.t as number;
    const tips = page.locator('.charts').first().locator('.tip');
    // The place of the reload in the chart moves from second to second.
    await until('the moment of the reload under the pointer', async () => {
      const box = await latencies.locator('.u-over').boundingBox();
      const last = await page.evaluate(async () => {
        const { points } = (await (await fetch('api/history')).json()) as { points: { t: number }[] };
        return points.at(-1)?.t ?? 0;
      });
      if (box === null) return false;
      await page.mouse.move(box.x + box.width * (1 - (last - at) / 60), box.y + 40);
      return /^\d\d:\d\d:\d\d\np99 [\d.]+ (µs|ms)\np90 .*\np50 .*\n(?:.|\n)*was reloaded/.test(
        await tips.nth(1).innerText(),
      );
    });
    const labels = await page.evaluate(() => [...(window as unknown as { drawn: Set<string> }).drawn]);
    expect(labels, 'true ticks').to.include.members(['0.25', '0.50', '0.75', '1.00']);
    expect(labels, 'a logarithmic axis').to.include.members(['10 µs', '100 µs', '1 ms']);
    expect(labels).to.not.include('0 µs');
    const [rate, latency, errors] = await tips.allInnerTexts();
    expect(rate).to.match(/^\d\d:\d\d:\d\d\nrequests\/s [\d.]+k?/);
    expect(errors).to.match(/\nerrors\/s 0/);
    expect(rate?.slice(0, 8), 'all charts show the same moment').to.equal(latency?.slice(0, 8));
    await page.screenshot({ path: `${screenshots}/under-the-pointer.png` });
    await page.mouse.move(1, 1);
    await tips.nth(1).waitFor({ state: 'hidden' });
    await latencies.focus();
    await page.keyboard.press('ArrowLeft');
    const newest = await tips.nth(1).innerText();
    await page.keyboard.press('Home');
    expect(
      (await tips.nth(1).innerText()).slice(0, 8) < newest.slice(0, 8),
      'arrow keys lead to older points',
    ).to.equal(true);
    await page.keyboard.press('Escape');
    expect(await tips.nth(1).isVisible()).to.equal(false);
    expect(complaints).to.deep.equal([]);
  });

  it('opens each worker, node and model to its own charts, also by keyboard; models say what they take', async () => {
    const server = startNode({ MODEL: 'digits', NODE_NAME: 'n1' });
    await open(await server.url());
    await shows('the workers', tile('Workers'), /^2 of 2/);
    await shows('what the model takes', 'section[aria-label="Models"] tbody', /float32\[64\] → .*float32\[10\]/);
    for (const [name, charts] of [
      ['worker 0 of n1', 6],
      ['node n1', 4],
      ['model digits', 4],
    ] as const) {
      const opener = page.getByRole('button', { name: `Charts of ${name}` });
      expect(await opener.getAttribute('aria-expanded')).to.equal('false');
      await opener.focus();
      await page.keyboard.press('Enter');
      expect(await opener.getAttribute('aria-expanded')).to.equal('true');
      const figures = page.locator('.row-charts .plot');
      expect(await figures.count(), name).to.equal(charts);
      await until(`values of ${name}`, async () =>
        /Now: .*\d/.test((await figures.first().getAttribute('aria-label')) ?? ''),
      );
      await opener.press('Enter');
      expect(await figures.count()).to.equal(0);
    }
    expect(complaints).to.deep.equal([]);
  });

  it('says why requests were refused, the newest first, and takes what clients sent for text', async () => {
    const redis = await RedisServer.start();
    const aggregator = await TestAggregator.start({ REDIS_URL: redis.url });
    await open(aggregator.url);
    const section = page.getByRole('region', { name: 'Why was it refused?' });
    await section.getByText('nothing was refused').waitFor();
    const rejections = [
      { client: '', protocol: 'tcp', model: '', reason: 'NO_WORKER', detail: 'no worker took it' },
      {
        client: 'fd00:1:2:3::/64',
        protocol: 'grpc',
        model: '<i>mine</i>',
        reason: 'MODEL_NOT_FOUND',
        detail: '<b>x</b>',
      },
      {
        client: '10.0.0.7',
        protocol: 'frames',
        model: 'digits',
        reason: 'BAD_INPUT',
        detail: `expected ${'256 '.repeat(40)}`,
      },
    ].map((rejection, i) => ({ ...rejection, uptimeMs: 1000 * i }));
    const publisher = new RedisPublisher(redisSettings(redis.url, { keyPrefix: 'mltcp' }), 'default', () => {});
    let sequence = 0;
    const publishing = setInterval(() => {
      const record = workerRecord({ node: 'n1', slot: 4, uptimeMs: 5000 + 100 * ++sequence, sequence });
      const told = { ...record, gauges: { ...record.gauges, rejections } };
      publisher.publish({ record: told, retires: [] }).catch(() => {}); // it fails until Redis is connected
    }, 100);
    try {
      const rows = section.locator('tbody tr');
      await rows.nth(2).waitFor();
      const [newest, hostile, oldest] = await rows.allInnerTexts();
      expect(newest).to.match(
        /^\d\d:\d\d:\d\d\t10\.0\.0\.7\tframes\tdigits\tBAD_INPUT\texpected 256 256.*\tworker 4 of n1$/,
      );
      expect(hostile).to.include('fd00:1:2:3::/64\tgrpc\t<i>mine</i>\tMODEL_NOT_FOUND\t<b>x</b>\tworker 4 of n1');
      expect(oldest).to.include('\t–\ttcp\t–\tNO_WORKER\t');
      await section.getByRole('button', { name: 'reason' }).click();
      expect(await section.getByRole('columnheader', { name: 'reason' }).getAttribute('aria-sort')).to.equal(
        'descending',
      );
      expect((await rows.allInnerTexts()).map((row) => row.split('\t')[4])).to.deep.equal([
        'NO_WORKER',
        'MODEL_NOT_FOUND',
        'BAD_INPUT',
      ]);
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        expect(await seriousIn(page), colorScheme).to.deep.equal([]);
        await page.screenshot({ path: `${screenshots}/rejections-${colorScheme}.png`, fullPage: true });
      }
      expect(complaints).to.deep.equal([]);
    } finally {
      clearInterval(publishing);
      await publisher.close();
    }
  });

  it('shows what a model takes and gives, along which axes requests share a run, and why they do not', async () => {
    const redis = await RedisServer.start();
    const aggregator = await TestAggregator.start({ REDIS_URL: redis.url });
    const publisher = new RedisPublisher(redisSettings(redis.url, { keyPrefix: 'mltcp' }), 'default', () => {});
    const plans = { vad: sileroPlan, finder: imagesPlan, city: textPlan, huge: hugePlan, own: null };
    let sequence = 0;
    const publish = async (version: string, models: Readonly<Record<string, ModelPlan | null>>): Promise<void> => {
      sequence++;
      const record = workerRecord({ node: 'n1', sequence });
      const loaded = Object.fromEntries(Object.keys(models).map((name) => [name, modelGauges(version)]));
      const counted = Object.fromEntries(Object.keys(models).map((name) => [name, noModelCounts()]));
      const updates = [
        { ...nodeOf('n1', version, models), sequence },
        { ...record, counts: { ...record.counts, models: counted }, gauges: { ...record.gauges, models: loaded } },
      ];
      // It fails until Redis is connected.
      await Promise.allSettled(updates.map((update) => publisher.publish({ record: update, retires: [] })));
    };
    let served: Readonly<Record<string, ModelPlan | null>> = plans;
    let version = '3';
    const publishing = setInterval(() => void publish(version, served), 100);
    try {
      await open(aggregator.url);
      const row = (name: string) => page.getByRole('button', { name: `Charts of model ${name}` });
      const plan = (name: string) => page.getByRole('region', { name: `of ${name}` });
      for (const name of Object.keys(plans)) await row(name).click();
      await plan('vad').waitFor();
      const vad = await plan('vad').innerText();
      expect(vad)
        .to.match(/^Plan of version 3, on n1\n/)
        .and.include('Up to 256 requests share a run (auto takes no more).');
      expect(vad).to.match(/input\tstate\tfloat32\t\[2,batch,128\]\t\[2,1,128\]\taxis 1/);
      expect(vad).to.match(/input\tsr\tint64\t\[\]\t\[\]\tconstant/);
      expect(await plan('finder').innerText()).to.include(
        'Each request gets a run of its own: the output boxes has as many rows as it finds.',
      );
      expect(await plan('city').innerText())
        .to.match(/probabilities\t.*\tno, yes, maybe/)
        .and.match(/hidden\t.*\tnot returned/)
        .and.include('ZipMap was taken out');
      const huge = await plan('huge').innerText();
      expect(huge)
        .to.match(/and \d{3} more inputs/)
        .and.include('There is more of it than fits here');
      expect(await plan('own').innerText()).to.include('only the model knows');
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        expect(await seriousIn(page)).to.deep.equal([]);
        await page.screenshot({ path: `${screenshots}/plans-${colorScheme}.png`, fullPage: true });
      }
      [version, served] = ['4', { ...plans, vad: rowPlan }];
      await until('the plan of the next version', async () =>
        /^Plan of version 4, on n1\n.*pixels/s.test(await plan('vad').innerText()),
      );
      expect(complaints).to.deep.equal([]);
    } finally {
      clearInterval(publishing);
      await publisher.close();
    }
  });

  it('shows on a phone that tables go on beyond the edge, and on which side', async () => {
    const server = startNode({});
    await open(await server.url(), { viewport: { width: 390, height: 700 } });
    await shows('the workers', tile('Workers'), /^2 of 2/);
    const table = page.locator('section[aria-label="Workers"]');
    const looks = async (): Promise<string> =>
      table.evaluate((element) => `${element.className} ${getComputedStyle(element).maskImage}`);
    await shows('that there is more', 'section[aria-label="Workers"] caption', /scroll for more →/);
    expect(await looks()).to.match(/^table more-right linear-gradient/);
    await table.evaluate((element) => element.scrollTo({ left: 10_000 }));
    await shows('that there is more before', 'section[aria-label="Workers"] caption', /scroll for more ←/);
    expect(await looks()).to.match(/^table more-left linear-gradient/);
    await page.setViewportSize({ width: 1440, height: 900 });
    await until('nothing more', async () => (await looks()) === 'table  none');
    await shows('no hint', 'section[aria-label="Workers"] caption', /^Workers\s*$/);
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
        // It fails until Redis is connected; the next one publishes everything again.
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
      // The CPU time of the page: the time by the clock depends on what else the machine does.
      const session = await page.context().newCDPSession(page);
      await session.send('Performance.enable');
      const spent = async (): Promise<{ readonly draws: number; readonly ms: number }> => {
        const { metrics } = await session.send('Performance.getMetrics');
        const value = (name: string): number => metrics.find((metric) => metric.name === name)?.value ?? Number.NaN;
        return { draws: value('LayoutCount'), ms: 1000 * value('ThreadTime') };
      };
      const before = await spent();
      const after = await until('ten drawings', async () => {
        const now = await spent();
        return now.draws >= before.draws + 10 && now;
      });
      expect((after.ms - before.ms) / (after.draws - before.draws)).to.be.within(1, 200);
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
        for (const name of [/^Charts of worker 0/, /^Charts of model/])
          await page.getByRole('button', { name }).first().click();
        await page.locator('.row-charts .plot').nth(9).waitFor();
        await page.locator('.plan').waitFor();
        expect(await seriousIn(page)).to.deep.equal([]);
        await page.screenshot({ path: `${screenshots}/${name}-${scheme}.png`, fullPage: true });
        if (name === 'desktop') await page.close();
      }
      expect(complaints).to.deep.equal([]);
      expect((await fetchMetrics(await server.url())).audit_imbalance).to.equal(0);
    });
  }
});

/** What an accessibility check calls serious. */
async function seriousIn(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { axe: check } = window as unknown as {
      axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
    };
    return (await check.run()).violations;
  });
  return violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
}

/** Formats a number as the page does. */
function shortCount(value: number): string {
  if (value < 10_000) return String(value);
  return value < 1e6 ? `${(value / 1e3).toPrecision(3)}k` : `${(value / 1e6).toPrecision(3)}M`;
}

function nodeOf(node: string, version: string, plans: Readonly<Record<string, ModelPlan | null>>): NodeRecord {
  const keeper = new NodeRecordKeeper({ node, run: 'run', version: '0.0.0' });
  const reports = Object.entries(plans).map(([name, plan]) => {
    const runsAloneBecause = plan?.runsAloneBecause ?? null;
    return [name, reportOf({ version, signature: 'onnx …', runsAloneBecause, plan }, 1 << 20)] as const;
  });
  keeper.learnModels(Object.fromEntries(reports));
  return keeper.snapshot();
}

function fakeWorker(slot: number, sequence: number): WorkerRecord {
  const record = workerRecord({ slot, incarnation: slot + 1, sequence });
  const gauges = { ...record.gauges, connections: slot % 7, cpuShare: (slot % 10) / 100, rssBytes: 1e8 + slot * 1e5 };
  return { ...record, gauges: slot === 77 ? { ...gauges, eventLoopDelayP99Ms: 900 } : gauges };
}
