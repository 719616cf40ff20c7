// The block that renews.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from './locks.mjs';
import { ask, common, info, nothingIsLeft, options, server, until } from './trials.mjs';

await common(connect);

test('work may outlast the lease', async () => {
  const hold = await connect(options, { leaseMs: 2000 });
  await hold('long', async (fence, lost) => {
    await sleep(5000);
    assert(!lost.aborted);
  });
  await nothingIsLeft();
});

// Runs work that begins with act and ends with its signal; returns the reason, and after how many ms.
async function ended(leaseMs, key, act) {
  const hold = await connect(options, { leaseMs });
  let reason, ms;
  await hold(key, async (fence, lost) => {
    const start = performance.now();
    const told = new Promise((resolve) => { lost.addEventListener('abort', resolve); });
    await act();
    await told;
    [reason, ms] = [lost.reason, performance.now() - start];
  }).catch(() => {});
  return { reason, ms };
}

test('the work is told when the lock is lost', async () => {
  const { ms } = await ended(1500, 'broken', () => ask('LOCK.BREAK broken'));
  assert(ms < 1000, `${ms} ms`);
  await nothingIsLeft();
});

test('the work is told when nobody answers', async () => {
  setTimeout(() => process.kill(server, 'SIGCONT'), 2000);
  const { ms } = await ended(1000, 'silent', () => process.kill(server, 'SIGSTOP'));
  assert(ms < 1800, `${ms} ms`);
  await nothingIsLeft();
});

test('the work is told when a refusal stays', async () => {
  const { reason, ms } = await ended(3000, 'refused', () => ask('CONFIG SET lock.max-lease-ms 1000'));
  await ask('CONFIG SET lock.max-lease-ms 604800000');
  assert.match(reason.cause.message, /BADARG/);
  assert(ms < 2000, `${ms} ms`);
  await nothingIsLeft();
});

test('a connection that is cut does not end the hold', async () => {
  const hold = await connect(options, { leaseMs: 1500 });
  await hold('reconnect', async (fence, lost) => {
    for (let n = 0; n < 6; n += 1) {
      await ask('CLIENT KILL TYPE normal SKIPME yes');
      await sleep(300);
    }
    assert(!lost.aborted);
  });
  await nothingIsLeft();
});

test('waits that are cancelled at the grant leave nothing behind', async () => {
  const hold = await connect(options);
  for (let round = 0; round < 20; round += 1) {
    await ask('LOCK.ACQUIRE cancel somebody');
    const cancel = new AbortController();
    const calls = Array.from({ length: 6 }, () => hold('cancel', async () => {}, cancel.signal));
    const told = Promise.allSettled(calls);
    await until('six waits', 5000, async () => (await info('waiting')) === 6);
    const released = ask('LOCK.RELEASE cancel somebody');
    if (round % 2) await released;
    cancel.abort();
    await told;
    await nothingIsLeft();
  }
});

test('a wait that is cancelled before its request has arrived ends soon', async () => {
  const hold = await connect(options);
  await ask('LOCK.ACQUIRE early somebody');
  for (let round = 0; round < 20; round += 1) {
    const cancel = new AbortController();
    const call = hold('early', async () => {}, cancel.signal);
    const start = performance.now();
    await sleep(round / 4);
    cancel.abort();
    await assert.rejects(call, { name: 'AbortError' });
    assert(performance.now() - start < 2000);
  }
  await ask('LOCK.RELEASE early somebody');
  await nothingIsLeft();
});
