// Suites that check the protocols below: HTTP/2, gRPC, and HTTP against a description of it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../folder.js';
import { cacheFolder } from '../models-cache.js';
import { TestProcess } from '../processes.js';
import { cleanEnv } from '../server.js';
import { failed, known, type Outcome, passed, skipped } from './outcome.js';
import { pythonEnv } from './python-clients.js';

const h2spec = join(cacheFolder, 'go/h2spec');
const schemathesis = join(cacheFolder, 'schemathesis/bin/schemathesis');

/** What Node's own HTTP/2 does otherwise, by h2spec's names. */
const h2specDifferences: Readonly<Record<string, string>> = {};

export async function h2specOutcomes(url: string): Promise<readonly Outcome[]> {
  if (!existsSync(h2spec)) return skipped('there is no h2spec: Go is missing, or it could not be built');
  const [host, port] = url.split(':') as [string, string];
  const report = join(temporaryFolder(), 'h2spec.xml');
  const args = ['-h', host, '-p', port, '-P', '/v2/health/live', '-o', '2', '-j', report];
  await new TestProcess(h2spec, args, { env: cleanEnv() }).ended(120_000);
  return outcomesOf(report).map((outcome) => known(outcome, h2specDifferences));
}

/** @param description a file, or where the server has it; undefined: the checkout that has it is not named */
export async function schemathesisOutcomes(url: string, description: string | undefined): Promise<readonly Outcome[]> {
  if (!existsSync(schemathesis)) return skipped('there is no schemathesis: it could not be fetched');
  if (description === undefined)
    return skipped(
      'clone https://github.com/kserve/open-inference-protocol and name its folder: --inference-protocol FOLDER',
    );
  const folder = temporaryFolder();
  const file = join(folder, 'openapi.yaml');
  writeFileSync(file, await descriptionAt(description));
  const config = join(folder, 'schemathesis.toml');
  const names = { MODEL_NAME: 'identity_fp32', model: 'identity_fp32', MODEL_VERSION: '1', version: '1' };
  const lines = Object.entries(names).map(([name, value]) => `"path.${name}" = "${value}"`);
  writeFileSync(config, ['[parameters]', ...lines, ''].join('\n'));
  const report = join(folder, 'report.xml');
  const checks = 'not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance';
  const args = ['--config-file', config, 'run', file, '--url', `http://${url}`, '--checks', checks];
  const bounds = ['--seed', '7', '--max-examples', '100', '--generation-database', 'none', '--continue-on-failure'];
  const program = new TestProcess(
    schemathesis,
    [...args, ...bounds, '--report', 'junit', '--report-junit-path', report],
    { env: pythonEnv(), cwd: folder },
  );
  const { code } = await program.ended(300_000);
  return existsSync(report)
    ? outcomesOf(report)
    : [failed('it runs', `it ended with ${code}: ${program.output.slice(-600)}`)];
}

async function descriptionAt(place: string): Promise<string> {
  if (place.startsWith('http')) return (await fetch(place)).text();
  const text = readFileSync(join(place, 'specification/protocol/open_inference_rest.yaml'), 'utf8');
  // Its paths have a dollar in front of each parameter, which would be sent as it stands.
  return text.replaceAll('${', '{');
}

/** What a report in JUnit's form says of each test. */
function outcomesOf(report: string): readonly Outcome[] {
  const text = readFileSync(report, 'utf8');
  const cases = text.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g);
  return [...cases].map(([, head = '', body = '']) => {
    const of = (name: string): string => unescaped(new RegExp(`\\b${name}="([^"]*)"`).exec(head)?.[1] ?? '');
    const name = [of('package'), of('classname'), of('name')].filter((part) => part !== '').join(' ');
    if (!/<(?:failure|error)\b/.test(body)) return passed(name);
    return failed(name, unescaped(body.replace(/<[^>]*>/g, ' ')).trim() || unescaped(body));
  });
}

const unescaped = (text: string): string =>
  text
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&#x([0-9a-f]+);/gi, (_, code: string) => String.fromCodePoint(Number.parseInt(code, 16)))
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&');
