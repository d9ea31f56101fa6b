"""How much memory something may take at any moment."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Fails where Python and its libraries allocate more meanwhile.

    Other threads of the process count as well, pytest's among them: a limit well under what must not be allocated, and
    well over what is, tells the two apart.
    """
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()
