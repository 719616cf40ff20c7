/** Time: the clock, a timer for many moments, and a limit for a request. */

import { performance } from 'node:perf_hooks'; // the global one is looked up anew each time
import { Ring } from './ring.js';

export const now = () => performance.now();
export const nothing = () => {};

/** Calls back at the earliest of the moments that it was told. It does not hear that one of them does not matter any more. */
export class Timer {
  private planned = Infinity;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly fire: () => void) {}

  by(moment: number): void {
    if (moment >= this.planned) return;
    clearTimeout(this.timer);
    this.planned = moment;
    this.timer = setTimeout(() => {
      this.planned = Infinity;
      this.fire();
    }, Math.max(0, moment - now())).unref();
  }

  /** For ever. */
  stop(): void {
    clearTimeout(this.timer);
    this.planned = -Infinity;
  }
}

/** Who may end its own request before there is a reply. */
export interface Caller {
  /** When it sent it. */
  sent: number;
  cancelled?: { reason: unknown } | undefined;
  /** Ends the request that is under way. */
  stop?: (reason: unknown) => void;
}

const requests = new Ring<{ end: number; limit: number; fail(reason: unknown): void }>();
const limits = new Timer(() => {
  for (const { end, limit, fail } of requests.all) {
    if (end <= now()) fail(new Error(`no reply from the server for ${limit} ms`));
    else limits.by(end);
  }
});

/** Settles as the promise does; but with what `failed` makes of a failure, of no reply for `limit` ms, or of the caller's end. */
export function within<T>(promise: Promise<T>, limit: number, failed?: (error: unknown) => Promise<T>, caller?: Caller): Promise<T> {
  return new Promise((resolve) => {
    const fail = (reason: unknown) => {
      if (place.leave()) resolve(failed ? failed(reason) : Promise.reject(reason));
    };
    const end = (caller?.sent ?? now()) + limit;
    const place = requests.add({ end, limit, fail });
    limits.by(end);
    promise.then((value) => {
      if (place.leave()) resolve(value);
    }, fail);
    if (!caller) return;
    caller.stop = fail;
    if (caller.cancelled) fail(caller.cancelled.reason);
  });
}
