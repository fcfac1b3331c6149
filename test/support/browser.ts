// The browser of the tests: Debian's Chromium, without a window.

import { existsSync, mkdirSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { root } from './processes.js';

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
);

/** Screenshots for people to look at. */
export const screenshots = `${root}build/screenshots`;

export const hasBrowser = executable !== undefined;

export async function openBrowser(): Promise<Browser> {
  mkdirSync(screenshots, { recursive: true });
  return chromium.launch({ executablePath: executable as string, args: ['--no-sandbox'] });
}

/** Everything the page complains about: errors in the console, exceptions, requests that failed or went elsewhere. */
export function complaintsOf(page: Page): readonly string[] {
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    const { hostname } = new URL(request.url());
    if (hostname !== '127.0.0.1') complaints.push(`it asked ${hostname}`);
  });
  return complaints;
}
