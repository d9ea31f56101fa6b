"""How much memory something may take at any moment."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Fails where Python and its libraries allocate more meanwhile; other threads of the process count as well."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()
