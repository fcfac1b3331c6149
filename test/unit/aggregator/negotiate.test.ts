import { expect } from 'chai';
import { negotiate } from '#src/aggregator/negotiate.js';

describe('the form of /metrics', () => {
  for (const [who, accept, form] of [
    ['nobody in particular', undefined, 'json'],
    ['curl', '*/*', 'json'],
    ['a browser', 'text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8', 'json'],
    ['a script for JSON', 'application/json', 'json'],
    ['a script for text', 'text/plain', 'prometheus'],
    [
      'Prometheus 2',
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    [
      'Prometheus 3',
      'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1',
      'prometheus',
    ],
    ['one who refuses JSON', 'application/json;q=0, text/plain;q=0.1', 'prometheus'],
    ['one who makes no sense', ';;;,q=,=/;q=x', 'json'],
  ] as const) {
    it(`is ${form} for ${who}`, () => expect(negotiate(accept)).to.equal(form));
  }
});
