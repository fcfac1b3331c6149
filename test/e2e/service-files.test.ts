// What config/ offers for running without PM2, checked by the programs that read it.

import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect } from 'chai';
import { operatorErrors } from '#src/errors.js';
import { temporaryFolder } from '../support/folder.js';
import { root } from '../support/processes.js';
import { skip } from '../support/skip.js';

const isThere = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

describe('beside PM2', () => {
  const unit = readFileSync(`${root}config/systemd/ml-tcp-server.service`, 'utf8');

  it('there is a systemd unit that systemd understands', function () {
    if (!isThere('systemd-analyze')) skip(this, 'systemd-analyze is not on PATH');
    const file = join(temporaryFolder(), 'ml-tcp-server.service');
    writeFileSync(file, unit.replace('/usr/bin/node', process.execPath).replace(/^Documentation=.*$/m, ''));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
    expect(stderr.split('\n').filter((line) => line.includes('ml-tcp-server.service'))).to.deep.equal([]);
    expect(status).to.equal(0);
  });

  it('the unit does not restart what a restart cannot mend', () => {
    const codes = /^RestartPreventExitStatus=(.*)$/m.exec(unit)?.[1]?.split(' ').map(Number);
    const { CONFIG_INVALID, LISTEN_FAILED, MODEL_LOAD_FAILED, WORKER_BOOT_FAILED } = operatorErrors;
    const mendable = [CONFIG_INVALID, LISTEN_FAILED, MODEL_LOAD_FAILED, WORKER_BOOT_FAILED];
    expect(codes).to.deep.equal(mendable.map(({ exitCode }) => exitCode));
  });

  it('PM2 does not restart what a restart cannot mend, and restarts what it can', () => {
    const { apps } = createRequire(import.meta.url)(`${root}ecosystem.config.cjs`) as {
      apps: { args: string; stop_exit_codes: number[] }[];
    };
    const { CONFIG_INVALID, LISTEN_FAILED, MODEL_LOAD_FAILED, WORKER_BOOT_FAILED } = operatorErrors;
    const ofServer = [CONFIG_INVALID, LISTEN_FAILED, MODEL_LOAD_FAILED, WORKER_BOOT_FAILED];
    expect(Object.fromEntries(apps.map(({ args, stop_exit_codes }) => [args, stop_exit_codes]))).to.deep.equal({
      start: ofServer.map(({ exitCode }) => exitCode),
      aggregator: [CONFIG_INVALID.exitCode, LISTEN_FAILED.exitCode],
    });
  });

  it('there is a rotation of logs that logrotate understands', function () {
    if (!isThere('logrotate')) skip(this, 'logrotate is not on PATH');
    const file = join(temporaryFolder(), 'ml-tcp-server');
    copyFileSync(`${root}config/logrotate/ml-tcp-server`, file);
    const { status, stderr } = spawnSync('logrotate', ['--debug', '--state', '/dev/null', file], { encoding: 'utf8' });
    expect(stderr).not.to.match(/error:/);
    expect(status).to.equal(0);
  });
});
