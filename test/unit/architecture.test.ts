// Which folder of src/ may import which, one row per folder. A new folder needs a row; think before adding a new arrow.
//
//   processes   cli ─▶ primary, worker, aggregator, tools
//   between     config, ipc, net, process, and the files that lie in no folder
//   below       serving ─▶ inference, metrics;  client ─▶ protocol

import { expect } from 'chai';
import { build } from 'esbuild';
import {
  circles,
  forbiddenImports,
  importsOf,
  loadedBy,
  type Packages,
  type Rule,
  sourcesBelow,
} from '../support/imports.js';
import { root } from '../support/processes.js';

/** The folder '' holds the files directly in src/. */
const rules: readonly Rule[] = [
  { of: 'protocol', may: [], because: 'bytes know nothing of what they are for' },
  {
    of: 'protocol/oip',
    may: ['protocol', 'tensors'],
    because: 'what is asked of a model is told in tensors, and the same however it travels',
  },
  {
    of: 'protocol/calls',
    may: ['protocol', 'protocol/oip'],
    because: 'a call is an envelope around what is asked of a model',
  },
  { of: 'tensors', may: [], because: 'numbers in a shape know nothing of models' },
  {
    of: 'inference',
    may: ['tensors', 'thrown.ts', 'in-time.ts', 'soon.ts', 'code.ts'],
    because: 'a model knows neither the protocol that its rows came by nor who counts them',
  },
  {
    of: 'metrics',
    may: ['thrown.ts', 'in-time.ts', 'process/process-identity.ts', 'net/socket-path.ts'],
    because: 'numbers know nothing of the processes that they are of',
  },
  {
    of: 'serving',
    may: ['inference', 'metrics', 'errors.ts', 'thrown.ts', 'in-time.ts', 'soon.ts'],
    because: 'a request is served alike whatever protocol and process it came by',
    withoutNode: ['net', 'tls', 'http', 'https', 'http2', 'dgram', 'cluster', 'child_process'],
  },
  { of: 'client', may: ['protocol'], because: 'it is a package of its own, for programs that have no server in them' },
  {
    of: 'net',
    may: ['errors.ts', 'thrown.ts'],
    because: 'sockets and addresses know nothing of the server that they are for',
  },
  {
    of: 'process',
    may: ['errors.ts', 'thrown.ts', 'in-time.ts'],
    because: 'signals, logs and files of a process are the same whichever process it is',
  },
  {
    of: 'config',
    may: ['inference', 'metrics', 'protocol', 'errors.ts', 'net/certificates.ts', 'net/socket-path.ts', 'thrown.ts'],
    because: 'settings are the same whichever process reads them',
  },
  {
    of: 'ipc',
    may: ['', 'process', 'net', 'config', 'inference', 'metrics'],
    because: 'what processes say to each other belongs to none of them',
  },
  {
    of: 'control',
    may: ['', 'process', 'net', 'ipc'],
    because: 'an operator and a server meet at the control socket, and neither is part of it',
  },
  {
    of: '',
    may: ['process', 'net', 'config', 'inference', 'ipc', 'metrics', 'protocol'],
    because: 'what all processes share knows none of them',
  },
  {
    of: 'cli.ts',
    may: [
      '',
      'process',
      'config',
      'control',
      'primary',
      'aggregator',
      'tools/inspect',
      'tools/operate',
      'tools/simulate',
      'tools/top',
    ],
    because: 'it starts commands, and does nothing else',
  },
  {
    of: 'primary',
    may: ['', 'process', 'net', 'config', 'control', 'inference', 'ipc', 'metrics'],
    because: 'processes share no code but what lies below them all, and the primary serves no requests',
  },
  {
    of: 'worker',
    may: [
      '',
      'process',
      'net',
      'config',
      'inference',
      'ipc',
      'metrics',
      'protocol',
      'protocol/oip',
      'protocol/calls',
      'serving',
      'tensors',
    ],
    because: 'processes share no code but what lies below them all',
  },
  {
    of: 'aggregator',
    may: ['', 'process', 'net', 'config', 'ipc', 'metrics'],
    because: 'processes share no code but what lies below them all, and an aggregator runs no models',
  },
  { of: 'aggregator/page', may: ['aggregator', 'format.ts', 'plan-text.ts'], because: 'it runs in a browser' },
  {
    of: 'tools/inspect',
    may: ['', 'process', 'config', 'inference', 'tensors', 'worker/models.ts'],
    because: 'it loads a model with the settings that a worker would load it with, and serves nothing',
  },
  {
    of: 'tools/operate',
    may: ['', 'process', 'control'],
    because: 'it speaks to a server by its control socket alone',
  },
  {
    of: 'tools/simulate',
    may: ['', 'process', 'client', 'config', 'metrics', 'protocol'],
    because: 'it is a client, and must find mistakes of the server and not share them',
  },
  { of: 'tools/top', may: ['', 'process', 'aggregator'], because: 'it shows what an aggregator serves' },
];

/** The files (for the page, the folder) that may import each package. `#onnxruntime` is our copy of it. */
const packages: Packages = {
  'cli.ts': ['commander'],
  'process/log.ts': ['pino', 'pino-pretty'],
  'otlp.ts': ['@opentelemetry'],
  'config/convict-formats.ts': ['convict'],
  'config/holder.ts': ['convict'],
  'inference/backends/onnx-runtime.ts': ['#onnxruntime'],
  'metrics/transport/redis-client.ts': ['ioredis'],
  'aggregator/guard.ts': ['helmet', 'rate-limiter-flexible'],
  'aggregator/http.ts': ['express', 'cors'],
  'aggregator/leader-election.ts': ['@socket.io/redis-adapter'],
  'aggregator/live.ts': ['socket.io', 'ws'],
  'aggregator/polling.ts': ['ws'],
  'aggregator/page': ['preact'],
  'aggregator/page/charts.tsx': ['preact', 'uplot'],
  'aggregator/page/feed.ts': ['socket.io-client'],
  'tools/simulate/progress.ts': ['cli-progress'],
  'tools/top/feed.ts': ['ws'],
};

/** Files that import one another: one of the imports is of types alone. Remove a line that is no longer true. */
const knownCircles: readonly string[] = ['serving/model-endpoint.ts serving/request-accounting.ts'];

const sources = sourcesBelow(`${root}src`, (path) => !path.startsWith('client/dist/'));

/** What the rules say of files if they existed. */
const findings = (files: Readonly<Record<string, string>>): readonly string[] =>
  forbiddenImports(importsOf(new Map(Object.entries(files)), sources), rules, packages);

describe('the sources', () => {
  it('import only what the row of their folder lets them', () => {
    expect(forbiddenImports(importsOf(sources), rules, packages)).to.deep.equal([]);
  });

  it('import one another in no circle but those that are known', () => {
    const found = circles(sources).map((circle) => circle.join(' '));
    expect(found.filter((circle) => !knownCircles.includes(circle))).to.deep.equal([]);
  });

  it('load what only some servers need where it is needed: each process pays for what it loads', () => {
    const spared = {
      'cli.ts': ['ioredis', 'pino-pretty', 'express', '#onnxruntime'],
      'primary/main.ts': ['ioredis', 'pino-pretty', 'express', '#onnxruntime'],
      'worker/main.ts': ['ioredis', 'pino-pretty', 'express', '#onnxruntime', 'convict', 'worker/typed.ts'],
      'aggregator/embedded.ts': ['ioredis', '@socket.io/redis-adapter', 'pino-pretty', '#onnxruntime', 'convict'],
      'inference/threads/main.ts': ['pino', '#onnxruntime'],
    };
    for (const [entry, names] of Object.entries(spared)) {
      const loaded = loadedBy(entry, sources);
      expect(loaded, entry).to.include('code.ts');
      expect(
        names.filter((name) => loaded.has(name)),
        entry,
      ).to.deep.equal([]);
    }
    expect(loadedBy('aggregator/main.ts', sources)).to.include('ioredis').and.include('express');
    expect(loadedBy('primary/main.ts', sources)).to.include('convict').and.include('pino');
  });

  it('are scanned for every import that a parser finds', async () => {
    const { metafile } = await build({
      absWorkingDir: `${root}src`,
      entryPoints: [...sources.keys()],
      packages: 'external',
      external: ['*.css', '#onnxruntime'],
      loader: { '.svg': 'empty', '.html': 'empty', '.css': 'empty' },
      platform: 'node',
      format: 'esm',
      target: 'node20',
      jsx: 'automatic',
      jsxImportSource: 'preact',
      bundle: true,
      write: false,
      outdir: 'never-written',
      metafile: true,
      logLevel: 'silent',
    });
    const scanned = new Set(importsOf(sources).map(({ from, name }) => `${from} ${name}`));
    const parsed = Object.entries(metafile.inputs).flatMap(([from, { imports }]) =>
      imports.map(({ path, original }) => `${from} ${original ?? path}`),
    );
    expect(parsed.length).to.be.greaterThan(300);
    expect(parsed.filter((one) => !scanned.has(one) && !one.endsWith('preact/jsx-runtime'))).to.deep.equal([]);
  });
});

describe('the rules of imports forbid', () => {
  it('an arrow that points up, sideways or into a process, and say why and what would mend it', () => {
    expect(findings({ 'protocol/new.ts': "import { Recorder } from '../metrics/recorder.js';" })).to.deep.equal([
      'protocol/new.ts imports metrics/recorder.ts: protocol may import nothing else, because bytes know nothing of what they are for. Hand it in from above, or move what both need below both; if the arrow is right, the row of protocol is wrong',
    ]);
    const wrong = {
      'inference/new.ts': '../log.js',
      'metrics/new.ts': '../errors.js',
      'client/new.ts': '../inference/model.js',
      'config/new.ts': '../primary/main.js',
      'serving/new.ts': '../worker/main.js',
      'new.ts': './aggregator/main.js',
      'primary/supervision/new.ts': '../../worker/main.js',
      'worker/framed/new.ts': '../../primary/main.js',
      'aggregator/new.ts': '../worker/main.js',
      'aggregator/page/new.ts': '../../log.js',
      'aggregator/http.ts': '../primary/main.js',
      'operate/new.ts': '../primary/main.js',
      'simulate/new.ts': '../aggregator/main.js',
      'top/new.ts': '../worker/main.js',
      'worker/new.ts': '../cli.js',
      'nowhere/new.ts': '../log.js',
    };
    for (const [file, name] of Object.entries(wrong))
      expect(findings({ [file]: `import '${name}';` }), file).to.have.lengthOf(1);
  });

  it('it in whatever way an import is written', () => {
    const ways = [
      "import '../metrics/merge.js';",
      "import type { A } from '../metrics/merge.js';",
      "import {\n  type A,\n  b,\n} from '../metrics/merge.js';",
      "import * as merge from '../metrics/merge.js';",
      "export * from '../metrics/merge.js';",
      "export { a } from '../metrics/merge.js';",
      "const merge = await import('../metrics/merge.js');",
      "type A = import('../metrics/merge.js').A;",
      "const merge = require('../metrics/merge.js');",
      'import "../metrics/merge.js";',
    ];
    for (const way of ways) expect(findings({ 'protocol/new.ts': way }), way).to.have.lengthOf(1);
  });

  it('a package anywhere but where it enters', () => {
    expect(findings({ 'worker/new.ts': "import { Redis } from 'ioredis';" })).to.deep.equal([
      'worker/new.ts imports ioredis: a package enters through one file, so that it can be replaced there; import metrics/transport/redis-client.ts instead',
    ]);
    expect(findings({ 'worker/new.ts': "import left from 'left-pad/x';" })).to.deep.equal([
      'worker/new.ts imports left-pad/x: a package enters through one file, so that it can be replaced there; give it one file that it enters through',
    ]);
    expect(findings({ 'aggregator/page/feed.ts': "import { h } from 'preact';" })).to.have.lengthOf(1);
    expect(findings({ 'aggregator/page/new.ts': "import { useState } from 'preact/hooks';" })).to.deep.equal([]);
  });

  it('sockets and processes where requests are served', () => {
    expect(findings({ 'serving/new.ts': "import { connect } from 'node:net';" })).to.deep.equal([
      'serving/new.ts imports node:net: serving does without it, because a request is served alike whatever protocol and process it came by. Hand in what it is needed for',
    ]);
    expect(findings({ 'serving/new.ts': "import { performance } from 'node:perf_hooks';" })).to.deep.equal([]);
  });

  it('circles, of types as well', () => {
    const tree = new Map([
      ['a.ts', "import type { B } from './b.js';"],
      ['b.ts', "import { c } from './c.js';"],
      ['c.ts', "export { a } from './a.js';"],
      ['d.ts', "import { a } from './a.js';"],
    ]);
    expect(circles(tree)).to.deep.equal([['a.ts', 'b.ts', 'c.ts']]);
  });

  it('onnxruntime-node in tests and scripts, which would report to its makers: src/inference/backends/onnx-runtime.ts is imported instead', () => {
    for (const folder of ['test', 'scripts']) {
      const imports = importsOf(sourcesBelow(`${root}${folder}`));
      expect(imports.length, folder).to.be.greaterThan(10);
      expect(
        imports.filter(({ name }) => name === 'onnxruntime-node'),
        folder,
      ).to.deep.equal([]);
    }
  });
});
