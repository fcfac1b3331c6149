// The programs that a measurement needs, as child processes: ceilings, our server, clients.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const running = new Set();

async function start(node, file, args, env, findPort) {
  // With another temporary folder, commands would not find the socket of the server.
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(node, [file, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH, HOME, ...(TMPDIR === undefined ? {} : { TMPDIR }), ...env },
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  for await (const line of createInterface({ input: child.stdout })) {
    const found = findPort(line);
    if (found !== null) {
      child.stdout.resume();
      return { child, ...found, stop: () => stop(child) };
    }
  }
  throw new Error(`${file} ended before it listened`);
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

export const stopAll = () => Promise.all([...running].map(stop));

/** @param node the binary of the Node to run */
export const startCeiling = (kind, workers, model = '', node = process.execPath) =>
  start(node, here('./ceiling.mjs'), [kind, String(workers), model], {}, portIn);

/** A server of another stack, with the same model. */
export const startPeer = (kind, workers, model) =>
  start(process.execPath, here('./peers.mjs'), [kind, String(workers), model], {}, portIn);

function portIn(line) {
  const found = /^listening on (\d+)$/.exec(line);
  return found === null ? null : { port: Number(found[1]) };
}

let configs = 0;

/**
 * Clients follow one another at once, and a busy server hears late of those that are gone: with the default, the next
 * one may be refused for them.
 */
const maxConnections = 1000;

/** Our server, as a user starts it. `ports` are those of its listeners, in order. */
export function startServer(folder, config, workers, node = process.execPath) {
  const file = join(folder, `server-${configs++}.json`);
  writeFileSync(file, JSON.stringify({ ...config, server: { maxConnections, ...config.server } }));
  const args = ['start', '--config', file, '--workers', String(workers), '--http-port', '0'];
  return start(node, here('../../bundle/cli.js'), args, {}, (line) => {
    const event = JSON.parse(line);
    if (event.level === 'fatal') throw new Error(event.msg);
    if (event.msg !== 'ready') return null;
    const ports = event.tcp.map((text) => Number(/:(\d+) /.exec(text)[1]));
    return { ports, port: ports[0], metricsUrl: event.metrics };
  });
}

async function client(file, settings) {
  const { stdout } = await promisify(execFile)(process.execPath, [here(file), JSON.stringify(settings)]);
  return JSON.parse(stdout);
}

/** Closed loop: `connections` × `depth` requests outstanding, for `seconds`. */
export const load = (settings) => client('./load.mjs', settings);

/** Open loop: `rate` requests a second over `connections`, answered or not. */
export const pacedLoad = (settings) => client('./paced-load.mjs', settings);

/** ONNX Runtime alone: `threads` run batches of `rows`, for `seconds`. */
export const bareThreads = (settings) => client('./bare-threads.mjs', settings);

export async function metricsOf(server) {
  const response = await fetch(server.metricsUrl);
  return response.json();
}
