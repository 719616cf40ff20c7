from typing import Any, Awaitable, Callable, Iterable, Optional, TypeVar
import asyncio
from types import TracebackType

from . import DeadlockError as DeadlockError
from . import LockError as LockError
from . import LockNotOwnedError as LockNotOwnedError
from . import Name, Number, Owner

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
L = TypeVar("L", bound="Lock")

__all__ = ["DeadlockError", "Latch", "Lock", "LockError", "LockNotOwnedError", "MultiLock", "Semaphore", "locked"]

class Lock:
    name: Name
    timeout: Optional[Number]
    local: Any
    def __init__(
        self,
        redis: Any,
        name: Name,
        timeout: Optional[Number] = None,
        sleep: Number = 0.1,
        blocking: bool = True,
        blocking_timeout: Optional[Number] = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
        *,
        renew: Optional[bool] = None,
        on_lost: Optional[Callable[[str], Any]] = None,
        owner: Optional[Owner] = None,
        watch: bool = False,
        max_hold: Optional[Number] = None,
    ) -> None: ...
    @property
    def fence(self) -> Optional[int]: ...
    @property
    def lost(self) -> asyncio.Event: ...
    @property
    def lost_reason(self) -> str: ...
    def shared(self: L) -> L: ...
    async def acquire(
        self,
        blocking: Optional[bool] = None,
        blocking_timeout: Optional[Number] = None,
        token: Optional[Owner] = None,
    ) -> bool: ...
    async def release(self) -> None: ...
    async def extend(self, additional_time: Number, replace_ttl: bool = False) -> bool: ...
    async def reacquire(self) -> bool: ...
    async def locked(self) -> bool: ...
    async def owned(self) -> bool: ...
    async def guard(self, *args: Any) -> Any: ...
    async def __aenter__(self: L) -> L: ...
    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None: ...

class Semaphore(Lock):
    def __init__(self, redis: Any, name: Name, limit: int, permits: int = 1, **options: Any) -> None: ...

class MultiLock(Lock):
    def __init__(self, redis: Any, names: Iterable[Name], **options: Any) -> None: ...

class Latch:
    def __init__(self, redis: Any, name: Name, size: int, life: Optional[Number] = 86400) -> None: ...
    async def down(self, who: Optional[Owner] = None) -> int: ...
    async def wait(self, timeout: Optional[Number] = None) -> bool: ...

def locked(template: str, client: Any, **options: Any) -> Callable[[F], F]: ...
