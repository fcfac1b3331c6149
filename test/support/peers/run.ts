// The whole of it, for scripts/peers.mjs: one server, and all that others made to ask it.

import { endProcesses } from '../processes.js';
import { failed, type Outcome, passed, skipped } from './outcome.js';
import { perfAnalyzer, perfAnalyzerModes, whyNoPerfAnalyzer } from './perf-analyzer.js';
import { checksOf, type PythonClient, pythonClients, whyNoPythonClients } from './python-clients.js';
import { PeersServer } from './serving.js';
import { h2specOutcomes, interopOutcomes, schemathesisOutcomes } from './suites.js';
import { exampleOutcomes, qaOutcomes } from './triton.js';

export interface Options {
  readonly pattern: string | undefined;
  /** Checkouts of others' repositories; undefined: what is in them is skipped. */
  readonly tritonClient: string | undefined;
  readonly tritonServer: string | undefined;
  readonly inferenceProtocol: string | undefined;
  readonly isVerbose: boolean;
}

interface Suite {
  readonly name: string;
  readonly run: (url: string) => Promise<readonly Outcome[]>;
}

async function pythonOutcomes(client: PythonClient, url: string): Promise<readonly Outcome[]> {
  const missing = whyNoPythonClients();
  if (missing !== null) return skipped(missing);
  return (await checksOf(client, url)).map(({ name, why }) => (why === null ? passed(name) : failed(name, why)));
}

async function loadOutcomes(url: string): Promise<readonly Outcome[]> {
  const missing = whyNoPerfAnalyzer();
  if (missing !== null) return skipped(missing);
  const outcomes: Outcome[] = [];
  for (const [name, args] of Object.entries(perfAnalyzerModes)) {
    const { why, requests, inferences, perSecond } = await perfAnalyzer(url, 'network', args);
    const figures = `${requests} requests, ${inferences} inferences, ${perSecond} a second`;
    outcomes.push(why === null ? passed(name, figures) : failed(name, why));
  }
  return outcomes;
}

function suites(options: Options): readonly Suite[] {
  return [
    ...Object.entries(pythonClients).map(([client, name]) => ({
      name,
      run: (url: string) => pythonOutcomes(client as PythonClient, url),
    })),
    { name: 'perf_analyzer', run: loadOutcomes },
    { name: "Triton's examples", run: (url) => exampleOutcomes(url, options.tritonClient) },
    { name: "Triton's QA", run: (url) => qaOutcomes(url, options.tritonServer) },
    { name: 'h2spec', run: h2specOutcomes },
    { name: "grpc-go's interop client", run: interopOutcomes },
    { name: "schemathesis, OIP's description", run: (url) => schemathesisOutcomes(url, options.inferenceProtocol) },
    { name: 'schemathesis, our description', run: (url) => schemathesisOutcomes(url, `http://${url}/v2/openapi.json`) },
  ];
}

/** @returns the exit code */
export async function runPeers(options: Options): Promise<number> {
  const chosen = suites(options).filter(({ name }) => new RegExp(options.pattern ?? '').test(name));
  const server = new PeersServer();
  const results: [string, readonly Outcome[]][] = [];
  try {
    const url = await server.address();
    for (const { name, run } of chosen) {
      const outcomes = await run(url).catch((error: Error) => [failed('it runs', error.message)]);
      results.push([name, outcomes]);
      console.log(lineOf(name, outcomes));
      for (const outcome of outcomes) {
        const isTold = options.isVerbose || outcome.result === 'failed' || outcome.result === 'differs';
        if (isTold && outcome.name !== '')
          console.log(`    ${outcome.result}: ${outcome.name}: ${oneLine(outcome.why)}`);
      }
    }
    console.log(`the server still answers: ${(await fetch(`http://${url}/v2/health/ready`)).ok}`);
  } finally {
    await endProcesses();
  }
  const hasFailed = results.some(([, outcomes]) => outcomes.some(({ result }) => result === 'failed'));
  return hasFailed ? 1 : 0;
}

function lineOf(name: string, outcomes: readonly Outcome[]): string {
  const count = (wanted: Outcome['result']): number => outcomes.filter(({ result }) => result === wanted).length;
  const [first] = outcomes;
  if (first?.result === 'skipped') return `| ${name} | skipped | | | ${oneLine(first.why)} |`;
  return `| ${name} | ${count('passed')} passed | ${count('failed')} failed | ${count('differs')} differ | |`;
}

const oneLine = (text: string): string => text.replace(/\s+/g, ' ').slice(0, 400);
