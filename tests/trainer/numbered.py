"""A stream for the fault tests, whose records tell what they are. Imports no torch: producers start quickly."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from producer.source import Indices, Source, content_digest
from protocol.chunk import Column
from protocol.schema import Field, Schema


class NumberedRecords(Source):
    """Records with an id each, from `first` on; `size` bytes of payload make the stripes short. All of it follows from
    the id.
    """

    def __init__(self, records: int = 6000, size: int = 1 << 16, validation: int = 200, first: int = 0) -> None:
        self.name = "numbered records"
        self.schema = Schema(
            (Field("id", "int64", ()), Field("payload", "uint8", (size,)), Field("label", "int64", ())),
            label="label",
            label_range=(0, 9),
        )
        self._records, self._size, self._validation, self._first = records, size, validation, first

    def __len__(self) -> int:
        return self._records

    def take(self, indices: Indices) -> dict[str, Column]:
        ids = indices + self._first
        payload = np.empty((len(ids), self._size), np.uint8)
        payload[:] = (ids % 251)[:, None]
        return {"id": ids, "payload": payload, "label": ids % 10}

    def fingerprint(self) -> str:
        return content_digest("numbered records", self._records, self._size, self._first)

    def splits(self) -> dict[str, Source]:
        if not self._validation:
            return {}
        return {"validation": NumberedRecords(self._validation, self._size, validation=0)}


class NumberedCamera:
    """The same records as a live source gives them: one after another, `passes` times, `rate` a second at most."""

    def __init__(
        self, records: int = 6000, passes: int = 1, size: int = 1 << 16, rate: float = 600, first: int = 0
    ) -> None:
        self._source, self._passes, self._rate = NumberedRecords(records, size, validation=0, first=first), passes, rate

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(self._passes):
            for record in range(len(self._source)):
                time.sleep(1 / self._rate)
                columns = self._source.take(np.arange(record, record + 1))
                yield {name: np.asarray(column)[0] for name, column in columns.items()}


class NumberedPictures(Source):
    """Pictures of noise in which the brightest of ten stripes is the label; padding makes the stripes of records short.

    One label in `noise` is wrong, so that there is something to over-fit; 0 for none.
    """

    def __init__(
        self, records: int = 2000, padding: int = 1 << 16, validation: int = 300, noise: int = 0, first: int = 0
    ) -> None:
        self.name = "numbered pictures"
        self.schema = Schema(
            (
                Field("id", "int64", ()),
                Field("image", "uint8", (1, 28, 28)),
                Field("label", "int64", ()),
                Field("padding", "uint8", (padding,)),
            ),
            label="label",
            label_range=(0, 9),
        )
        self._records, self._padding, self._validation, self._first = records, padding, validation, first
        drawn = np.random.RandomState(first)
        self._labels = drawn.randint(0, 10, records)
        self._images = drawn.randint(0, 160, (records, 1, 28, 28)).astype(np.uint8)
        for row, label in enumerate(self._labels):
            self._images[row, 0, 2 * label : 2 * label + 4] += 60
        if noise:
            self._labels[::noise] = drawn.randint(0, 10, len(self._labels[::noise]))
        self._noise = noise

    def __len__(self) -> int:
        return self._records

    def take(self, indices: Indices) -> dict[str, Column]:
        padding = np.zeros((len(indices), self._padding), np.uint8)
        return {
            "id": indices + self._first,
            "image": self._images[indices],
            "label": self._labels[indices],
            "padding": padding,
        }

    def fingerprint(self) -> str:
        return content_digest("numbered pictures", self._records, self._padding, self._noise, self._first)

    def splits(self) -> dict[str, Source]:
        if not self._validation:
            return {}
        held = NumberedPictures(self._validation, self._padding, 0, self._noise, first=self._records)
        return {"validation": held}
