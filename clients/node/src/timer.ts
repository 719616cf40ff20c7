/** One timer for many: nothing is made for a lock or a request that is over before it falls due. */

export const now = () => performance.now();
export const nothing = () => {};

/** Calls back at the earliest of the moments that it was told. It does not hear that one of them does not matter any more. */
export class Timer {
  private planned = Infinity;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly fire: () => void) {}

  by(moment: number): void {
    if (moment >= this.planned) return;
    this.stop();
    this.planned = moment;
    this.timer = setTimeout(() => {
      this.planned = Infinity;
      this.fire();
    }, Math.max(0, moment - now())).unref();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.planned = Infinity;
  }
}

/** Who may end its own request before there is a reply. */
export interface Caller {
  cancelled?: { reason: unknown } | undefined;
  /** While a request is under way: ends it. */
  stop?: ((reason: unknown) => void) | undefined;
}

interface Request {
  limit: number;
  end: number;
  fail(reason: unknown): void;
}

const requests = new Set<Request>();
const limits = new Timer(() => {
  for (const { limit, end, fail } of requests) {
    if (end <= now()) fail(new Error(`no reply from the server for ${limit} ms`));
    else limits.by(end);
  }
});

/** Settles as the promise does, or fails after `limit` ms, or when the caller is cancelled. Nothing is left of it then. */
export function within<T>(promise: Promise<T>, limit: number, caller?: Caller, failed = (_: unknown) => {}): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      if (caller) caller.stop = undefined;
      return requests.delete(request);
    };
    const fail = (reason: unknown) => {
      if (!leave()) return;
      failed(reason);
      reject(reason);
    };
    const request = { limit, end: now() + limit, fail };
    requests.add(request);
    limits.by(request.end);
    promise.then((value) => {
      leave();
      resolve(value);
    }, fail);
    if (caller) caller.stop = fail;
    if (caller?.cancelled) fail(caller.cancelled.reason);
  });
}
