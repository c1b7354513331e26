"""Values: dataclasses that nobody changes once they are made, and that cost little to make.

The standard library enforces ``frozen=True`` while the program runs, and every field of every
construction pays for it: for a job, four times the price.  Decisions are made of values, so here
the type checker alone enforces it (an assignment is an error of mypy).  Equality and hash are
those of a frozen dataclass.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

__all__ = ["dataclass", "remembered"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool, **options: bool) -> Callable[[type], type]:
        """As the standard one, unguarded."""
        return dataclasses.dataclass(unsafe_hash=frozen, **options)


T = TypeVar("T")


class remembered(Generic[T]):
    """A property of a value without slots that is worked out once; copies take it with them."""

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        self._work_out = work_out
        self._name = work_out.__name__
        self.__doc__ = work_out.__doc__

    def __get__(self, value: Any, kind: type) -> T:
        # Found on the class only while the value itself has none yet.
        found = value.__dict__[self._name] = self._work_out(value)
        return found
