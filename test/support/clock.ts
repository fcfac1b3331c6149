import { type Clock, install } from '@sinonjs/fake-timers';

/** Within a `describe`, time passes only where a test lets it: a machine that is busy makes nobody late. */
export function withClock(): () => Clock {
  let clock: Clock;
  beforeEach(() => {
    clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
    clock.tick(1000); // no moment of a process that serves is its first
  });
  afterEach(() => clock.uninstall());
  return () => clock;
}
