// The block for ioredis, and what docs/clients.md says of this client.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Redis from 'ioredis';
import { hold } from './locks.mjs';
import { ask, common, info, nothingIsLeft, options, until } from './trials.mjs';

const here = { ...options.socket, commandTimeout: 100, keyPrefix: 'app:' };

await common(async (_, times) => (key, work) => hold(here, key, work, times));

test('keyPrefix does not reach the key', async () => {
  await hold(here, 'k', async () => {
    assert.equal(await ask('EXISTS k'), 1);
    assert.equal(await ask('EXISTS app:k'), 0);
  });
});

test('commandTimeout ends the call and leaves the wait in line', async () => {
  const client = new Redis(here).on('error', () => {});
  await ask('LOCK.ACQUIRE k somebody');
  await assert.rejects(client.call('LOCK.ACQUIRE', 'k', 'me', 'BLOCK', 60_000), /timed out/);
  assert.equal(await info('waiting'), 1);
  await ask('LOCK.RELEASE k somebody');
  assert(await ask('LOCK.CHECK k me') > 0); // which nobody knows of
  client.disconnect();
  assert.equal(await ask('LOCK.RELEASE k me'), 1);
  await nothingIsLeft();
});
