import { type Clock, install } from '@sinonjs/fake-timers';

/** Within a `describe`, time passes only where a test lets it, so that a busy machine makes nothing late. */
export function withClock(): () => Clock {
  let clock: Clock;
  beforeEach(() => {
    clock = install({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
    clock.tick(1000); // a serving process is never in its first moment
  });
  afterEach(() => clock.uninstall());
  return () => clock;
}
