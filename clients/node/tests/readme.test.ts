/** The blocks of README.md, each a program of its own that also ends by itself. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Server } from './support.js';

test('the programs of README.md', async () => {
  const server = await Server.start();
  const blocks = readdirSync('build/readme').filter((name) => name.endsWith('.js'));
  assert.equal(blocks.length, 2);
  for (const block of blocks) {
    const env = { ...process.env, LOCK_PORT: `${server.port}` };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [`build/readme/${block}`], { env, timeout: 20_000 });
    assert.match(stdout, /^mine, under fence [0-9]+n\n$/);
    assert.equal(stderr, '');
  }
  await server.stop();
});
