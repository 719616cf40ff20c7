/** What can go wrong, as values that a program can tell apart by their class or by `code`. */

/** The lock could not be had, or is not held. `code` is the first word of the server's reply, or one of this library's. */
export class LockError extends Error {
  override name = 'LockError';
  constructor(readonly code: string, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** Somebody else had the lock for as long as the call was willing to wait. */
export class LockBusyError extends LockError {
  override name = 'LockBusyError';
  constructor(keys: readonly string[], wait: number) {
    super('BUSY', `${keys.join(', ')}: busy for ${wait} ms`);
  }
}

/** The lock was held and is not any more. `reason` says why, in the server's word: `expired`, `broken`, `deleted` … */
export class LockLostError extends LockError {
  override name = 'LockLostError';
  constructor(keys: readonly string[], readonly reason: string) {
    super('LOST', `${keys.join(', ')}: the lock is lost (${reason})`);
  }
}

/** The server said no. Every error reply begins with a code in capitals; what a client says of its connection does not. */
export function codeOf(error: unknown): string | undefined {
  return /^([A-Z][A-Z0-9]+)( |$)/.exec(error instanceof Error ? error.message : '')?.[1];
}

/** What a call of ours fails with: an error of the server with its code, one of the connection as it is. */
export function asLockError(error: unknown): unknown {
  const code = codeOf(error);
  return code && error instanceof Error ? new LockError(code, error.message, { cause: error }) : error;
}

/** Said in passing: the same owner asks again, and has its place or its lock as before. */
const PASSING = new Set(['UNBLOCKED', 'READONLY', 'TRYAGAIN', 'MOVED', 'ASK', 'LOADING', 'MASTERDOWN', 'CLUSTERDOWN', 'BUSY']);

/** Whether to ask again: there was no reply, or one that tells of a passing state. */
export function passing(error: unknown): boolean {
  const code = codeOf(error);
  return code === undefined || PASSING.has(code);
}
