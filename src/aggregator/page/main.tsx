// Redraws the page when something has changed: at most once a frame, not while the user selects text, and not so often
// that a large cluster keeps the browser busy.

import { render } from 'preact';
import { count } from '../../format.js';
import { App } from './app.js';
import { Feed } from './feed.js';

const root = document.getElementById('app') as HTMLElement;
root.textContent = '';

/** The share of the time that drawing may take. */
const drawingShare = 0.25;

let isDue = false;
let notBefore = 0;

function draw(): void {
  isDue = false;
  const selection = document.getSelection();
  if (selection !== null && !selection.isCollapsed) {
    setTimeout(schedule, 500);
    return;
  }
  const begin = performance.now();
  const { state } = feed;
  render(<App state={state} />, root);
  const marks = {
    connecting: '…',
    live: '',
    stale: '⚠ stale ',
    silent: '⚠ silent ',
    gone: '⚠ gone ',
    refused: '⚠ refused ',
  };
  const rps = state.metrics === null ? '' : `${count(state.metrics.requests_per_second)}/s `;
  document.title = `${marks[state.connection]}${rps}· ml-tcp-server`;
  const now = performance.now();
  notBefore = now + (now - begin) / drawingShare;
}

function schedule(): void {
  if (isDue) return;
  isDue = true;
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, notBefore - performance.now()));
}

const feed = new Feed(schedule);
schedule();
