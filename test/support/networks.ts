// Simulated machines: network namespaces, each with its own address and cable, joined by a bridge in a namespace of its
// own. Linux, root and the `ip` command only.

import { spawnSync } from 'node:child_process';

const ip = (...args: readonly string[]): void => {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
};

export class Networks {
  readonly #prefix = `mltcp${process.pid}`;
  readonly #names: string[] = [];

  /** Null where this machine does not allow it. */
  static create(): Networks | null {
    const networks = new Networks();
    try {
      const bridge = networks.#add('switch');
      ip('-n', bridge, 'link', 'add', 'switch', 'type', 'bridge');
      ip('-n', bridge, 'link', 'set', 'switch', 'up');
      return networks;
    } catch {
      networks.remove();
      return null;
    }
  }

  /** A machine with this address in 10.77.0.0/24; `run` gives the command that starts a process on it. */
  machine(name: string, address: string): { readonly address: string; run(command: readonly string[]): string[] } {
    const bridge = this.#names[0] as string;
    const space = this.#add(name);
    ip('-n', space, 'link', 'set', 'lo', 'up');
    ip('-n', space, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', name, 'netns', bridge);
    ip('-n', space, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    ip('-n', space, 'link', 'set', 'eth0', 'up');
    ip('-n', bridge, 'link', 'set', name, 'master', 'switch', 'up');
    return { address, run: (command) => ['ip', 'netns', 'exec', space, ...command] };
  }

  /** Unplugs a machine's cable, or plugs it in again. */
  cable(name: string, state: 'up' | 'down'): void {
    ip('-n', this.#names[0] as string, 'link', 'set', name, state);
  }

  remove(): void {
    for (const name of this.#names.splice(0)) ip('netns', 'delete', name);
  }

  #add(name: string): string {
    const space = `${this.#prefix}-${name}`;
    ip('netns', 'add', space);
    this.#names.push(space);
    return space;
  }
}
