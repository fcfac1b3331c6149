// One setting, as the files of schema/ list them: its purpose, format and default. Its TypeScript type follows from its
// format, so that types need no list beside the list of settings.

import type { FormatTypes } from './convict-formats.js';

/** A format of ours by its name, or convict's own for true and false. */
type Format = keyof FormatTypes | BooleanConstructor;
type TypeOf<F extends Format> = F extends keyof FormatTypes ? FormatTypes[F] : boolean;

export interface Setting<T> {
  /** A sentence for the README's table. */
  readonly doc: string;
  readonly format: Format;
  readonly default: T;
  /** The environment variable that can set it. */
  readonly env?: string;
  /** Whether its value is a secret: never shown, and kept from the environment of processes that do not need it. */
  readonly sensitive?: boolean;
}

/** Settings by name, and sections of them. */
export interface SettingTree {
  readonly [name: string]: Setting<unknown> | SettingTree;
}

/** The values that a tree of settings describes. */
export type SettingsOf<Tree> = {
  readonly [Name in keyof Tree]: Tree[Name] extends Setting<infer T> ? T : SettingsOf<Tree[Name]>;
};

/** A setting with the type of its format, or with a narrower one if named. */
export function setting<F extends Format, T extends TypeOf<F> = TypeOf<F>>(
  entry: Setting<NoInfer<T>> & { readonly format: F },
): Setting<T> {
  return entry;
}
