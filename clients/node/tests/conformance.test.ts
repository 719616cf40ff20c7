/** Plays the scenarios on each client. */

import { test } from 'node:test';
import { SCENARIOS, play, reason } from './play.js';
import { forEachClient } from './support.js';

forEachClient('scenarios', (world) => {
  for (const scenario of SCENARIOS) {
    test(scenario.name, { skip: reason(scenario, ['restart', 'successor']), timeout: 60_000 }, async () => {
      const { server, proxy, connect } = world;
      await server.reset();
      await play(scenario, server, proxy, () => connect(scenario.client?.direct ? server.port : proxy.port));
    });
  }
});
