// The quick loop: formatting, lint, types of sources and tests, and which file may import which.

import { buildPackages } from './packages.mjs';
import { buildPage, install, root, runTool } from './prepare.mjs';

install();
runTool('@biomejs/biome', ['check', '--error-on-warnings', '.']);
runTool('typescript', ['--build', 'tsconfig.json', 'src/aggregator/page/tsconfig.json', 'test/tsconfig.json']);
runTool('mocha', ['--reporter', 'dot', 'build/test/unit/architecture.test.js'], { cwd: root });
buildPage();
buildPackages();
