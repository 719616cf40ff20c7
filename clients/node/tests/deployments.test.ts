/** Plays the scenarios that say so on servers as people run them, without the proxy. */

import { after, before, describe, test } from 'node:test';
import { SCENARIOS, play, reason } from './play.js';
import { DEPLOYED, Deployment } from './support.js';

for (const [kind, clients] of Object.entries(DEPLOYED)) {
  describe(`scenarios on ${kind}`, { skip: process.env['BRIEF'] && kind !== 'cluster' ? 'only in the long form' : false }, () => {
    let servers: Deployment | string;
    before(async () => { servers = await Deployment.start(kind); });
    after(async () => { if (typeof servers !== 'string') await servers.stop(); });
    for (const [name, connect] of Object.entries(clients)) {
      for (const scenario of SCENARIOS.filter(({ on }) => on?.includes(kind))) {
        test(`${name}: ${scenario.name}`, { skip: reason(scenario, ['failover']), timeout: 60_000 }, async (t) => {
          if (typeof servers === 'string') return t.skip(servers);
          const { told } = servers;
          await servers.cmd('FLUSHALL');
          await play(scenario, servers, undefined, () => connect(told));
        });
      }
    }
  });
}
