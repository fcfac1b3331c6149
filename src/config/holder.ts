// Holds the values of settings, by means of convict, which coerces and validates them by their formats.

import convict from 'convict';
import './convict-formats.js';
import type { SettingsOf } from './setting.js';

/** Keeps convict from reading the environment and the flags of this process by itself. */
const outside = { env: {}, args: [] };

export type Holder<T> = convict.Config<T>;

/** Holds values for a tree of settings, initially the defaults; coerces values that are set, and validates. */
export function holderFor<Tree extends object>(tree: Tree): Holder<SettingsOf<Tree>> {
  return convict(tree as convict.Schema<SettingsOf<Tree>>, outside);
}
