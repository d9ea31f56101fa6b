"""Serves a stream: `Publisher` in somebody's own capture program, `python -m producer` as a whole program."""

from producer.publisher import Publisher

__all__ = ["Publisher"]
