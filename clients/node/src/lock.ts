/** What the program has of a hold. */

import type { Hold } from './hold.js';
import type { Keeper } from './keeper.js';

/** Whoever has the signal of a lock has the lock, too. */
const locks = new WeakMap<AbortSignal, Lock>();

/** A lock that is held. `await using lock = …` releases it at the end of the block. */
export class Lock implements AsyncDisposable {
  #signal: AbortSignal | undefined;

  /** Made by `Locks.acquire`. */
  constructor(private readonly keeper: Keeper, private readonly hold: Hold) {}

  get keys(): readonly string[] {
    return this.hold.keys;
  }

  get owner(): string {
    return this.hold.owner;
  }

  /** A number that grows with every grant. Send it along with every write, and let what you write to refuse an older one. */
  get fence(): bigint {
    return BigInt(this.hold.fence);
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
    return this.keeper.lost(this.hold) || undefined;
  }

  /** Asks the server whether this lock is held. Before a step that must not be done twice. */
  held(): Promise<boolean> {
    return this.keeper.held(this.hold);
  }

  /** Gives the lock a lease of so many ms from now. Throws LockLostError if it is not held any more. */
  extend(lease: number): Promise<void> {
    return this.keeper.extend(this.hold, lease);
  }

  /** Gives the lock back; the next in line has it in the same moment. Throws LockLostError if it was lost before. */
  release(): Promise<void> {
    return this.keeper.release(this.hold);
  }

  /** The end of `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hold.released) await this.release();
  }
}
