/** A lock as its holder sees it: what was wanted, what was granted, and what is said to the server about it. */

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { LockError, LockLostError, codeOf } from './errors.js';
import type { Lock } from './lock.js';
import type { Ring } from './ring.js';

const PROCESS = `${hostname().replace(/[^\w.-]/g, '').slice(0, 64)}:${process.pid}:${randomBytes(12).toString('base64url')}`;
let owners = 0;
export const newOwner = () => `${PROCESS}.${(owners += 1)}`;
export const vary = (ms: number) => ms * (0.85 + 0.15 * Math.random());

// With several keys it is another command, which says how many they are.
export const ACQUIRE = ['LOCK.ACQUIRE', 'LOCK.MACQUIRE'] as const;
export const RELEASE = ['LOCK.RELEASE', 'LOCK.MRELEASE'] as const;

export class Hold {
  private over: AbortController | undefined;
  /** As the server wrote it. */
  fence = '';
  /** Among those that are kept. */
  place: Ring<Hold> | undefined;
  /** The object that the program has, while it must not be noticed that the program has dropped it. */
  lock: Lock | undefined;
  until = Infinity;
  due = Infinity;
  /** Why it has ended, if it has ended without a release. */
  reason = '';
  released = false;
  /** Whether an older request of this owner got no reply, and may still be obeyed. */
  doubt = false;
  /** Whether the server is to be asked whether it is still held. */
  look: boolean;

  /** `named`: the program chose this owner, who may have the lock by another call then. */
  constructor(
    readonly keys: readonly string[], readonly owner: string, readonly named: boolean, readonly mode: readonly string[],
    public lease: number, readonly renew: boolean, readonly watch: boolean, readonly most: number,
  ) {
    this.look = watch;
  }

  get key(): string {
    return this.keys[0]!;
  }

  /** Aborts when it is lost. Made for who asks for it. */
  get signal(): AbortSignal {
    this.over ??= new AbortController();
    if (this.reason) this.over.abort(new LockLostError(this.keys, this.reason));
    return this.over.signal;
  }

  /** The server keeps it for so many ms, which count from before the request. */
  lasts(sent: number, ms: number): void {
    this.until = sent + ms;
    this.due = this.renew ? sent + vary(this.lease / 3) : this.until;
  }

  /** The begin of a request of this owner for these keys. */
  about(names: readonly [string, string]): string[] {
    const { keys, owner } = this;
    return keys.length === 1 ? [names[0], keys[0]!, owner] : [names[1], owner, String(keys.length), ...keys];
  }

  /** Says all that a server needs to bring back a hold that a failover has lost. */
  renewal(lease = this.lease): string[] {
    const { keys, owner, mode, fence } = this;
    const words = keys.length === 1
      ? ['LOCK.RENEW', keys[0]!, owner, 'PX', String(lease)]
      : ['LOCK.MRENEW', owner, String(lease), String(keys.length), ...keys];
    return [...words, 'FENCE', fence, ...mode];
  }

  release(): string[] {
    const request = this.about(RELEASE);
    request.push('FENCE', this.fence);
    return request;
  }

  check(key: string): string[] {
    return ['LOCK.CHECK', key, this.owner, 'FENCE', this.fence, 'WITHINFO'];
  }

  /** Fails if it was released. */
  mine(verb: string): void {
    if (this.released) throw new LockError('RELEASED', `${this.keys.join(', ')}: cannot ${verb} what was released`);
  }

  lose(reason: string): void {
    if (this.reason || this.released) return;
    this.reason = reason;
    this.over?.abort(new LockLostError(this.keys, reason));
  }
}

/** Why there is no hold, in the server's word; undefined if there is one, or nothing is known. */
export function reasonIn(reply: unknown): string | undefined {
  if (reply instanceof Error) return codeOf(reply) === 'WRONGTYPE' ? 'overwritten' : undefined;
  const flat = Array.isArray(reply) ? reply : Object.entries(reply instanceof Map ? Object.fromEntries(reply) : (reply as object)).flat();
  const at = (name: string) => flat[flat.findIndex((word) => String(word) === name) + 1];
  return Number(at('result')) === 0 ? String(at('reason')) : undefined;
}
