// The program of clients/bench in JavaScript, on ioredis. See bench.py for what it obeys.
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import { Locks } from './dist/index.js';

const redis = new Redis({ port: Number(process.argv[2]), host: '127.0.0.1' });
const locks = new Locks(redis);
const owner = 'bench:12345:0123456789abcdef';
let held = [];

for await (const line of createInterface({ input: process.stdin })) {
  const [word, first, second] = line.split(' ');
  const n = Number(first);
  const out = [];
  if (word === 'raw') {
    for (let i = 0; i < n; i++) {
      const fence = await redis.call('LOCK.ACQUIRE', 'raw', owner, 'PX', 30000);
      await redis.call('LOCK.RELEASE', 'raw', owner, 'FENCE', fence);
    }
  } else if (word === 'lib') {
    for (let i = 0; i < n; i++) await (await locks.acquire('pair')).release();
  } else if (word === 'hold') {
    for (let i = 0; i < n; i++) held.push(await locks.acquire(`held:${i}`, { lease: Number(second) }));
  } else if (word === 'drop') {
    for (const lock of held) await lock.release();
    held = [];
  } else if (word === 'turn') {
    const lock = await locks.acquire(first);
    out.push(`monotonic ${process.hrtime.bigint()}`);
    await lock.release();
  } else if (word === 'rtt') {
    for (let i = 0; i < n; i++) {
      const begun = process.hrtime.bigint();
      await redis.call('PING');
      out.push(`${process.hrtime.bigint() - begun}`);
    }
  }
  console.log([...out, 'ok'].join('\n'));
}
process.exit(0);
