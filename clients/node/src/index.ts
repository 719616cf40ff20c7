/** Locks in the server, first come first served, for ioredis and node-redis. */

import { Hold, newOwner } from './hold.js';
import { Keeper } from './keeper.js';
import type { RedisClient } from './link.js';
import type { Lock } from './lock.js';
import { Wait } from './wait.js';

export { LockBusyError, LockError, LockLostError } from './errors.js';
export { Lock } from './lock.js';
export type { IoredisClient, NodeRedisClient, RedisClient } from './link.js';

const LEASE = 30_000; // ms; renewed at a third of it

/** How to hold a lock. All times are in milliseconds. */
export interface HoldOptions {
  /** How long the server keeps the lock for a holder that is not heard of any more. 30,000 without it. */
  lease?: number;
  /** Whether the lease is renewed, at a third of it, until the release. True without it. */
  renew?: boolean;
  /** After how long the lock ends, however often it is renewed. Never without it. */
  maxHold?: number;
  /**
   * Whether to be told of a loss at once, and not by the next renewal. It takes two more connections for all that watch, and a
   * request for each lock, renewal and change; not in a cluster.
   */
  watch?: boolean;
  /** For a reader: held by many readers at a time, and by no writer meanwhile. */
  shared?: boolean;
  /** A semaphore for so many at a time. All who use the name say the same limit. */
  limit?: number;
  /** How many permits of the semaphore to take together. 1 without it. */
  permits?: number;
  /** Who holds it; a new name without it. One name for all locks of one piece of work shows in LOCK.INFO and LOCK.OWNER. */
  owner?: string;
}

/** How to wait for a lock. */
export interface AcquireOptions extends HoldOptions {
  /** How long to wait in line. For ever without it. */
  wait?: number;
  /** Ends the wait. A wait that was ended leaves the line, and gives back what it got in that moment. */
  signal?: AbortSignal;
}

/**
 * The locks of one client: `Redis` or `Cluster` of ioredis, a client or a cluster of node-redis. It never blocks the client.
 *
 * Options given here hold for all calls that do not say otherwise.
 */
export class Locks implements AsyncDisposable {
  readonly #keeper: Keeper;

  constructor(client: RedisClient, private readonly options: Pick<AcquireOptions, 'lease' | 'renew' | 'wait' | 'watch'> = {}) {
    this.#keeper = new Keeper(client);
  }

  /** Takes the lock, or waits in line for it. Several keys are taken together, all or none. */
  acquire(keys: string | readonly string[], options: AcquireOptions = {}): Promise<Lock> {
    return this.#take(keys, options, options.wait ?? this.options.wait ?? Infinity, false, options.signal) as Promise<Lock>;
  }

  /** Takes the lock if it is free. Returns `null` if it is not. */
  tryAcquire(keys: string | readonly string[], options: HoldOptions = {}): Promise<Lock | null> {
    return this.#take(keys, options, 0, true);
  }

  /** Calls `work` while it holds the lock. Throws LockLostError if the lock was lost before the work was done. */
  using<T>(keys: string | readonly string[], work: (lock: Lock) => T | Promise<T>): Promise<T>;
  using<T>(keys: string | readonly string[], options: AcquireOptions, work: (lock: Lock) => T | Promise<T>): Promise<T>;
  async using<T>(keys: string | readonly string[], ...rest: unknown[]): Promise<T> {
    const work = rest.pop() as (lock: Lock) => T | Promise<T>;
    const lock = await this.acquire(keys, rest[0] as AcquireOptions | undefined);
    let result: T;
    try {
      result = await work(lock);
    } catch (error) {
      await lock[Symbol.asyncDispose]().catch(() => {}); // what went wrong at work says more
      throw error;
    }
    await lock[Symbol.asyncDispose]();
    return result;
  }

  /** Ends all waits, gives back what is held, and closes what was opened. The client stays open. */
  close(): Promise<void> {
    return this.#keeper.close();
  }

  /** The end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(names: string | readonly string[], options: HoldOptions, wait: number, orNull: boolean, signal?: AbortSignal): Promise<Lock | null> {
    const { shared, limit, permits = 1, owner } = options;
    if (limit !== undefined && (shared || !(limit > 0))) return Promise.reject(new RangeError('a limit is above 0, and not for readers'));
    const mode = shared ? ['SHARED'] : limit ? ['LIMIT', String(limit), 'PERMITS', String(permits)] : [];
    const keys = typeof names === 'string' ? [names] : [...names];
    const lease = options.lease ?? this.options.lease ?? LEASE;
    const renew = options.renew ?? this.options.renew ?? true;
    const watch = options.watch ?? this.options.watch ?? false;
    const hold = new Hold(keys, owner ?? newOwner(), owner !== undefined, mode, lease, renew, watch, options.maxHold ?? Infinity);
    return new Wait(this.#keeper, hold, wait, orNull, signal).done;
  }
}
