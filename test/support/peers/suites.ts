// Suites that check the protocols below: HTTP/2, gRPC, and HTTP against a description of it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../folder.js';
import { cacheFolder } from '../models-cache.js';
import { TestProcess } from '../processes.js';
import { cleanEnv } from '../server.js';
import { InteropServer } from './interop-service.js';
import { failed, known, type Outcome, passed, skipped } from './outcome.js';
import { pythonEnv } from './python-clients.js';

const h2spec = join(cacheFolder, 'go/h2spec');
const interop = join(cacheFolder, 'go/client');
const schemathesis = join(cacheFolder, 'schemathesis/bin/schemathesis');

/** What Node's own HTTP/2 does otherwise, by h2spec's names. */
const closedStream = 'node:http2 ends the stream in silence, or answers: it forgets streams that are closed';
const h2specDifferences: Readonly<Record<string, string>> = {
  'http2/3.5 Sends invalid connection preface':
    'it is taken for HTTP/1.1, which the port speaks too, and refused as such',
  'http2/5.1 closed: Sends a DATA frame after sending RST_STREAM frame': closedStream,
  'http2/5.1 closed: Sends a HEADERS frame after sending RST_STREAM frame': closedStream,
  'http2/5.1 closed: Sends a DATA frame': closedStream,
  'http2/5.1 closed: Sends a HEADERS frame': closedStream,
  'http2/5.1.1 Sends stream identifier that is numerically smaller than previous': closedStream,
  'http2/6.7 Sends a PING frame with ACK':
    'node:http2 closes the connection of a client that answers what was not asked',
  'http2/6.9.1 Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1':
    'node:http2 ends it with NO_ERROR',
};

export async function h2specOutcomes(url: string): Promise<readonly Outcome[]> {
  if (!existsSync(h2spec)) return skipped('there is no h2spec: Go is missing, or it could not be built');
  const [host, port] = url.split(':') as [string, string];
  const report = join(temporaryFolder(), 'h2spec.xml');
  const args = ['-h', host, '-p', port, '-P', '/v2/health/live', '-o', '2', '-j', report];
  await new TestProcess(h2spec, args, { env: cleanEnv() }).ended(120_000);
  return outcomesOf(report).map((outcome) => known(outcome, h2specDifferences));
}

/** The client's cases that need neither TLS, credentials nor metadata of ours. */
const interopCases = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'unimplemented_method',
  'unimplemented_service',
];

export async function interopOutcomes(): Promise<readonly Outcome[]> {
  if (!existsSync(interop)) return skipped('there is no interop client: Go is missing, or it could not be built');
  const server = await InteropServer.start();
  const outcomes: Outcome[] = [];
  for (const name of interopCases) {
    const args = ['-server_host', '127.0.0.1', '-server_port', String(server.port), '-test_case', name];
    const program = new TestProcess(interop, args, { env: cleanEnv() });
    const { code } = await program.ended(60_000);
    outcomes.push(code === 0 ? passed(name) : failed(name, program.output.slice(-300)));
  }
  server.close();
  return outcomes;
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
  const bounds = ['--seed', '7', '--max-examples', '50', '--generation-database', 'none', '--continue-on-failure'];
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
