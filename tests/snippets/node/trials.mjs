// What every block of JavaScript must stand. The server listens on LOCK_PORT and is the process LOCK_PID. Each driver says
// how its block is called: connect(options, { leaseMs, waitMs }) gives hold(key, work).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';

export const options = { socket: { host: 'localhost', port: Number(process.env.LOCK_PORT) } };
export const server = Number(process.env.LOCK_PID);
export const admin = await createClient(options).on('error', () => {}).connect();
export const ask = (line) => admin.sendCommand(line.split(' '));

export async function info(field) {
  return Number((await ask('INFO everything')).match(`lock_${field}:([0-9]+)`)[1]);
}

export async function until(what, ms, condition) {
  for (const end = performance.now() + ms; !(await condition()); await sleep(5)) {
    assert(performance.now() < end, `waited in vain for ${what}`);
  }
}

// Nobody holds a lock or waits for one, long before a lease could have ended.
export const nothingIsLeft = () => until('locks and lines to be empty', 5000, async () =>
  (await info('held')) === 0 && (await info('waiting')) === 0);

async function holdForLong(connect) { // the process that will be killed
  const hold = await connect(options, { leaseMs: 1500 });
  await hold(process.env.HOLD, async () => {
    console.log('held');
    await sleep(60_000);
  });
}

console.error = () => {}; // the blocks log what is done to their connections here

export function common(connect) {
  if (process.env.HOLD) return holdForLong(connect);

  test('two hundred callers are served one at a time', async () => {
    const hold = await connect(options);
    const fences = [];
    let inside = 0;
    await Promise.all(Array.from({ length: 200 }, () => hold('crowd', async (fence) => {
      assert.equal(++inside, 1);
      await sleep(1);
      fences.push(fence);
      inside -= 1;
    })));
    assert.equal(new Set(fences).size, 200);
    assert.deepEqual(fences, fences.toSorted((a, b) => a - b));
    await nothingIsLeft();
  });

  test('waits for different locks do not wait for each other', async () => {
    const hold = await connect(options);
    await ask('LOCK.ACQUIRE one somebody PX 3000');
    const one = hold('one', async () => performance.now());
    await until('the wait', 5000, async () => (await info('waiting')) === 1);
    const two = await hold('two', async () => performance.now());
    assert((await one) > two);
    await nothingIsLeft();
  });

  test('the default settings last for a long wait', async () => {
    await ask('LOCK.ACQUIRE slow somebody PX 7000');
    const abandoned = await info('abandoned');
    const hold = await connect(options);
    await hold('slow', async () => assert.equal(await info('abandoned'), abandoned));
    await nothingIsLeft();
  });

  test('a busy lock is an error', async () => {
    await ask('LOCK.ACQUIRE busy somebody');
    const hold = await connect(options, { waitMs: 200 });
    await assert.rejects(hold('busy', () => assert.fail('held')), /busy/);
    await ask('LOCK.RELEASE busy somebody');
    await nothingIsLeft();
  });

  test('an error at work gives the lock back', async () => {
    const hold = await connect(options);
    await assert.rejects(hold('throw', async () => { throw new Error('at work'); }), /at work/);
    await nothingIsLeft();
  });

  test('a lost lock is told', async () => {
    const hold = await connect(options);
    await assert.rejects(hold('lost', () => ask('LOCK.BREAK lost')), /lost/);
    await nothingIsLeft();
  });

  test('waits that are cut at the grant leave nothing behind and do not end the process', async () => {
    const hold = await connect(options);
    await ask('LOCK.ACQUIRE cut somebody');
    const calls = Array.from({ length: 50 }, () => hold('cut', async () => {}));
    const told = Promise.allSettled(calls);
    await until('50 waits', 5000, async () => (await info('waiting')) === 50);
    await admin.multi()
      .addCommand('LOCK.RELEASE cut somebody'.split(' '))
      .addCommand('CLIENT KILL TYPE normal SKIPME yes'.split(' ')).exec();
    await told; // some have failed, unless the client asked again by itself
    await nothingIsLeft();
    await hold('cut', async () => {}); // they connect again by themselves
  });

  test('a release goes out after a cut while the lock was held', async () => {
    const hold = await connect(options);
    await hold('held', () => ask('CLIENT KILL TYPE normal SKIPME yes'));
    await nothingIsLeft();
  });

  test('a killed holder keeps the lock for one lease', async () => {
    const holder = spawn(process.execPath, [process.argv[1]], { env: { ...process.env, HOLD: 'killed' } });
    await new Promise((resolve) => { holder.stdout.once('data', resolve); });
    const start = performance.now();
    holder.kill('SIGKILL');
    const hold = await connect(options);
    await hold('killed', async () => {});
    assert(performance.now() - start < 3000);
    await nothingIsLeft();
  });
}
