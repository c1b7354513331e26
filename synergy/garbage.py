"""How often Python looks for garbage that only a search finds: what refers to itself in a circle.

The values that decisions are made of refer to nothing that refers back; they go as soon as nobody
has them.  Searching every few hundred new objects, as Python does, finds none of that again and
again, and costs a twentieth of every decision.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects until the next look for garbage.
COLLECT_AFTER = 200_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While it lasts, look for garbage seldom, and never among what was there before."""
    often = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *often[1:])
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()
