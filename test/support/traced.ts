// What a program and all its children ask of the system, recorded by strace: where they connect and send to, and which
// files they create, change or remove.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { temporaryFolder } from './folder.js';
import { TestProcess } from './processes.js';

export const hasStrace = (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, 'strace')));

export interface Footprint {
  /** As address:port; for unix sockets, the path. Each once. */
  readonly connected: readonly string[];
  /** Addresses that its own sockets are bound to. */
  readonly bound: readonly string[];
  /** Absolute paths; each once. */
  readonly written: readonly string[];
}

const calls = 'connect,bind,getsockname,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,mknod,mknodat';
const renames = 'rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,truncate';

/** A program under strace. Signals go to the program. */
export class TracedProcess extends TestProcess {
  readonly #folder: string;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd?: string) {
    const folder = temporaryFolder();
    const flags = ['-ff', '-qq', '--seccomp-bpf', '-s', '4096', '-e', 'signal=none', '-e', `trace=${calls},${renames}`];
    super(
      'strace',
      [...flags, '-o', join(folder, 'trace'), command, ...args],
      cwd === undefined ? { env } : { env, cwd },
    );
    this.#folder = folder;
  }

  override signal(signal: NodeJS.Signals): void {
    const [program] = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').match(/\d+/g) ?? [];
    if (program !== undefined) process.kill(Number(program), signal);
  }

  /** To be called after the process has ended. */
  footprint(): Footprint {
    const lines = readdirSync(this.#folder).flatMap((file) =>
      readFileSync(join(this.#folder, file), 'utf8').split('\n'),
    );
    return footprintOf(lines);
  }
}

/** The footprint in the lines of a trace, which are one call each. */
export function footprintOf(lines: readonly string[]): Footprint {
  const connected = new Set<string>();
  const bound = new Set<string>();
  const written = new Set<string>();
  for (const line of lines) {
    const [, call = '', rest = ''] = /^(\w+)\((.*)$/.exec(line) ?? [];
    const address = addressIn(rest);
    const paths = [...rest.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, path]) => path ?? '');
    if (call === 'bind' || call === 'getsockname') {
      if (address?.kind === 'inet') bound.add(address.text);
      if (address?.kind === 'unix' && call === 'bind') written.add(address.text);
    } else if (/^(connect|send)/.test(call)) {
      if (address !== null) connected.add(address.text);
    } else if (!/^open/.test(call) || /O_CREAT|O_WRONLY|O_RDWR|O_TRUNC/.test(rest)) {
      for (const path of paths) written.add(path);
    }
  }
  return { connected: [...connected], bound: [...bound], written: [...written] };
}

function addressIn(rest: string): { readonly kind: 'inet' | 'unix'; readonly text: string } | null {
  const port = /sin6?_port=htons\((\d+)\)/.exec(rest)?.[1];
  const host = /inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"/.exec(rest);
  if (port !== undefined && host !== null) return { kind: 'inet', text: `${host[1] ?? host[2]}:${port}` };
  const path = /sun_path=@?"([^"]+)"/.exec(rest)?.[1];
  return path === undefined ? null : { kind: 'unix', text: path };
}
