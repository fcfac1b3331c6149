import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { familySources } from '#src/aggregator/prometheus.js';
import { root } from '../../support/processes.js';

describe('the rules for Prometheus', () => {
  it('ask for metrics that there are', () => {
    const names = familySources.flatMap(({ name, type }) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    );
    const rules = readFileSync(`${root}config/prometheus/rules.yml`, 'utf8');
    const expressions = rules.replaceAll(/^.*(summary|description):.*$/gm, '');
    const asked = new Set(expressions.match(/\bmltcp_\w+/g));
    expect(asked.size).to.be.above(10);
    for (const name of asked) expect(names).to.include(name);
  });
});
