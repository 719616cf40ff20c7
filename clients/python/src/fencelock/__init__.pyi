from typing import Any, Callable, Iterable, Optional, TypeVar, Union
import threading
from types import TracebackType

Number = Union[int, float]
Name = Union[str, bytes, bytearray, memoryview]
Owner = Union[str, bytes]
F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L", bound="Lock")

__all__ = ["DeadlockError", "Latch", "Lock", "LockError", "LockNotOwnedError", "MultiLock", "Semaphore", "locked"]

class LockError(Exception):
    message: str
    lock_name: Any

class LockNotOwnedError(LockError): ...
class DeadlockError(LockError): ...

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
    def lost(self) -> threading.Event: ...
    @property
    def lost_reason(self) -> str: ...
    def shared(self: L) -> L: ...
    def acquire(
        self,
        sleep: Optional[Number] = None,
        blocking: Optional[bool] = None,
        blocking_timeout: Optional[Number] = None,
        token: Optional[Owner] = None,
    ) -> bool: ...
    def release(self) -> None: ...
    def extend(self, additional_time: Number, replace_ttl: bool = False) -> bool: ...
    def reacquire(self) -> bool: ...
    def locked(self) -> bool: ...
    def owned(self) -> bool: ...
    def guard(self, *args: Any) -> Any: ...
    def __enter__(self: L) -> L: ...
    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None: ...

class Semaphore(Lock):
    def __init__(self, redis: Any, name: Name, limit: int, permits: int = 1, **options: Any) -> None: ...

class MultiLock(Lock):
    def __init__(self, redis: Any, names: Iterable[Name], **options: Any) -> None: ...

class Latch:
    def __init__(self, redis: Any, name: Name, size: int, life: Optional[Number] = 86400) -> None: ...
    def down(self, who: Optional[Owner] = None) -> int: ...
    def wait(self, timeout: Optional[Number] = None) -> bool: ...

def locked(template: str, client: Any, **options: Any) -> Callable[[F], F]: ...
