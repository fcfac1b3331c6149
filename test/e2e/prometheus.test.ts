// A real Prometheus that scrapes a real server, and promtool's verdict on the text.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect } from 'chai';
import { Load } from '../support/load.js';
import { endProcesses, freePort, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';
import { until } from '../support/until.js';

const isInstalled = (program: string): boolean =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));

describe('Prometheus', function () {
  this.timeout(60_000);
  let folder: string;
  let server: TestServer;
  let port: number;
  before(async function () {
    if (!isInstalled('prometheus') || !isInstalled('promtool')) skip(this, 'prometheus is not installed');
    folder = mkdtempSync(join(tmpdir(), 'mltcp-prometheus-'));
    server = new TestServer({ env: { NODE_NAME: 'p1', WORKERS: '2' } });
    port = await server.port();
    const client = await RawClient.connect(port);
    client.send(Buffer.alloc(256), Buffer.alloc(256), Buffer.alloc(1));
    await client.replied(3);
    await server.metricsWhen('three requests', ({ total_requests }) => total_requests === 3);
  });
  after(async () => {
    await endProcesses();
    if (folder) rmSync(folder, { recursive: true });
  });

  it('has nothing to say against names, types and help, by promtool', async () => {
    const text = await (await fetch(`${await server.url()}/metrics`, { headers: { accept: 'text/plain' } })).text();
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    expect(`${stdout}${stderr}`).to.equal('');
    expect(status).to.equal(0);
  });

  it('takes the rules in config/, and they say what they should', () => {
    for (const args of [
      ['check', 'rules', 'rules.yml'],
      ['test', 'rules', 'rules.test.yml'],
    ]) {
      const { status, stdout, stderr } = spawnSync('promtool', args, {
        cwd: `${root}config/prometheus`,
        encoding: 'utf8',
      });
      expect(status, `${stdout}${stderr}`).to.equal(0);
    }
  });

  /** Starts a Prometheus that scrapes the server every second; resolves to a function that queries it. */
  async function startPrometheus(): Promise<(expression: string) => Promise<string | undefined>> {
    const target = new URL(await server.url()).host;
    const port = await freePort();
    const config = join(folder, `prometheus-${port}.yml`);
    writeFileSync(
      config,
      JSON.stringify({
        scrape_configs: [{ job_name: 'mltcp', scrape_interval: '1s', static_configs: [{ targets: [target] }] }],
      }),
    );
    const args = [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, `data-${port}`)}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ];
    new TestProcess('prometheus', args);
    const query = async (expression: string): Promise<string | undefined> => {
      const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const body = (await response.json()) as { data: { result: { value: [number, string] }[] } };
      return body.data.result[0]?.value[1];
    };
    await until('the first scrape', async () => (await query('up')) === '1', { timeoutMs: 30_000 });
    return query;
  }

  it('scrapes every metric family, and counts what the clients saw', async () => {
    const query = await startPrometheus();
    expect(await query('mltcp_requests_received_total{model="digits"}')).to.equal('3');
    expect(await query('sum(mltcp_requests_refused_total{reason="bad_input"})')).to.equal('1');
    expect(await query('mltcp_request_duration_seconds_count')).to.equal('2');
    expect(await query('mltcp_workers{node="p1"}')).to.equal('2');
    expect(
      Number(await query('histogram_quantile(0.5, sum by (le) (mltcp_request_duration_seconds_bucket))')),
    ).to.be.above(0);
    const text = await (await fetch(`${await server.url()}/metrics`, { headers: { accept: 'text/plain' } })).text();
    for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
      expect(await query(`count(${type === 'histogram' ? `${name}_count` : name})`), name).to.match(/^[1-9]/);
    }
  });

  it('has data for every panel of the dashboard for Grafana', async () => {
    const { panels } = JSON.parse(readFileSync(`${root}config/grafana/dashboard.json`, 'utf8')) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const query = await startPrometheus();
    const load = new Load(() => [port], { payloadBytes: 256, replyBytes: 44 });
    try {
      for (const { title, targets } of panels) {
        for (const { expr } of targets) {
          // A rate needs two scrapes with something between them.
          await until(
            `data for ${title}: ${expr}`,
            async () => Number.isFinite(Number((await query(expr)) ?? 'none')),
            {
              intervalMs: 200,
            },
          );
        }
      }
      expect(panels.length).to.be.above(10);
    } finally {
      load.destroy();
    }
  });
});
