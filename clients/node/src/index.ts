/** Locks in the server, first come first served, for ioredis and node-redis. */

import { LockBusyError, LockError, LockLostError } from './errors.js';
import { type Hold, Keeper, LEASE, about, newOwner } from './keeper.js';
import { Link, type RedisClient } from './link.js';
import { Timer, now } from './timer.js';
import { Wait } from './wait.js';

export { LockBusyError, LockError, LockLostError } from './errors.js';
export type { IoredisClient, NodeRedisClient, RedisClient } from './link.js';

/** How to hold a lock. All times are in milliseconds. */
export interface HoldOptions {
  /** How long the server keeps the lock for a holder that is not heard of any more. 30,000 without it. */
  lease?: number;
  /** Whether the lease is renewed, at a third of it, until the release. True without it. */
  renew?: boolean;
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

/** Whoever has the signal of a lock has the lock, too. */
const locks = new WeakMap<AbortSignal, Lock>();
const dropped = new FinalizationRegistry<{ keeper: Keeper; hold: Hold }>(({ keeper, hold }) => keeper.drop(hold));
/** The registry is dear, and most locks are soon released: it gets those that are a few ms old. Until then they are kept here. */
const fresh = new Map<Lock, { keeper: Keeper; hold: Hold }>();
const soon = new Timer(() => {
  for (const [lock, held] of fresh) dropped.register(lock, held, held.hold);
  fresh.clear();
});

/** A lock that is held. `await using lock = …` releases it at the end of the block. */
export class Lock implements AsyncDisposable {
  #signal: AbortSignal | undefined;

  /** Made by `Locks.acquire`. */
  constructor(private readonly keeper: Keeper, private readonly hold: Hold) {
    fresh.set(this, { keeper, hold });
    soon.by(now() + 5);
  }

  get keys(): readonly string[] {
    return this.hold.keys;
  }

  get owner(): string {
    return this.hold.owner;
  }

  /** A number that grows with every grant. Send it along with every write, and let what you write to refuse an older one. */
  get fence(): bigint {
    return this.hold.fence;
  }

  /** Aborts as soon as the lock is lost; its reason is a `LockLostError`. It does not abort when the lock is released. */
  get signal(): AbortSignal {
    if (!this.#signal) {
      this.#signal = AbortSignal.any([this.hold.signal]);
      locks.set(this.#signal, this);
    }
    return this.#signal;
  }

  /** Why the lock was lost, in one word; `undefined` while it was not. */
  get lost(): string | undefined {
    if (!this.hold.reason && now() >= this.hold.until) this.keeper.lose(this.hold, 'lease-over');
    return this.hold.reason || undefined;
  }

  /** Asks the server whether this lock is held. Before a step that must not be done twice. */
  async held(): Promise<boolean> {
    if (this.hold.released || this.lost) return false;
    return this.keeper.held(this.hold).catch((error) => {
      if (error instanceof LockLostError) return false;
      throw error;
    });
  }

  /** Gives the lock a lease of so many ms from now. Throws LockLostError if it is not held any more. */
  async extend(lease: number): Promise<void> {
    this.#mine('extend');
    const { keeper, hold } = this;
    const sent = now();
    hold.lease = lease;
    hold.until = sent + (await keeper.settle(hold, hold.renewal()));
    hold.plan();
    keeper.add(hold);
  }

  /** Gives the lock back; the next in line has it in the same moment. Throws LockLostError if it was lost before. */
  async release(): Promise<void> {
    this.#mine('release');
    const { keeper, hold } = this;
    hold.released = true;
    keeper.forget(hold);
    if (!fresh.delete(this)) dropped.unregister(hold);
    try {
      await keeper.settle(hold, hold.release());
    } catch (error) {
      if (!(error instanceof LockLostError)) {
        keeper.owe({ key: hold.key, args: hold.release(), until: hold.until });
      } else if (hold.keys.length > 1) { // one of them was lost, and none was released
        await keeper.ask(hold.key, about('RELEASE', hold.keys, hold.owner));
      }
      throw error;
    } finally {
      if (hold.doubt && keeper.link.trouble) keeper.disown(hold.keys, hold.owner, hold.lease);
    }
  }

  /** The end of `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hold.released) await this.release();
  }

  #mine(verb: string): void {
    if (this.hold.released) throw new LockError('RELEASED', `${this.keys.join(', ')}: cannot ${verb} what was released`);
    if (verb === 'extend' && this.lost) throw new LockLostError(this.keys, this.lost);
  }
}

/**
 * The locks of one client: `Redis` or `Cluster` of ioredis, a client or a cluster of node-redis. It never blocks the client.
 *
 * Options given here hold for all calls that do not say otherwise.
 */
export class Locks implements AsyncDisposable {
  readonly #keeper: Keeper;

  constructor(client: RedisClient, private readonly options: Pick<AcquireOptions, 'lease' | 'renew' | 'wait' | 'watch'> = {}) {
    this.#keeper = new Keeper((...callbacks) => new Link(client, ...callbacks));
  }

  /** Takes the lock, or waits in line for it. Several keys are taken together, all or none. */
  async acquire(keys: string | readonly string[], options: AcquireOptions = {}): Promise<Lock> {
    const wait = options.wait ?? this.options.wait ?? Infinity;
    const hold = await this.#wait(keys, options, wait, options.signal);
    if (!hold) throw new LockBusyError([keys].flat(), wait);
    return new Lock(this.#keeper, hold);
  }

  /** Takes the lock if it is free. Returns `null` if it is not. */
  async tryAcquire(keys: string | readonly string[], options: HoldOptions = {}): Promise<Lock | null> {
    const hold = await this.#wait(keys, options, 0);
    return hold && new Lock(this.#keeper, hold);
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

  #wait(names: string | readonly string[], options: HoldOptions, wait: number, signal?: AbortSignal): Promise<Hold | null> {
    const { shared, limit, permits, owner } = options;
    const mode = shared ? ['SHARED'] : limit ? ['LIMIT', String(limit), 'PERMITS', String(permits ?? 1)] : [];
    const keys = typeof names === 'string' ? [names] : [...names];
    if (keys.length === 0) throw new RangeError('no key was given');
    const lease = options.lease ?? this.options.lease ?? LEASE;
    const renew = options.renew ?? this.options.renew ?? true;
    const watch = options.watch ?? this.options.watch ?? false;
    const wanted = { keys, owner: owner ?? newOwner(), named: owner !== undefined, mode, lease, renew, watch, wait, signal };
    return new Wait(this.#keeper, wanted).run();
  }
}
