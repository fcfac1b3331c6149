// The quick loop: formatting, lint with the import rules, types of sources and tests.

import { buildPackages } from './packages.mjs';
import { buildPage, install, runTool } from './prepare.mjs';

install();
runTool('@biomejs/biome', ['check', '--error-on-warnings', '.']);
runTool('typescript', ['--build', 'tsconfig.json', 'src/aggregator/page/tsconfig.json', 'test/tsconfig.json']);
buildPage();
buildPackages();
