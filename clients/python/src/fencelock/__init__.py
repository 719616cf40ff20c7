"""Locks in the server, first come first served, for redis-py and valkey-py. See `fencelock.asyncio` for tasks."""

from ._core import DeadlockError, LockError, LockNotOwnedError
from ._threads import Latch, Lock, MultiLock, Semaphore, locked

__all__ = ["DeadlockError", "Latch", "Lock", "LockError", "LockNotOwnedError", "MultiLock", "Semaphore", "locked"]
