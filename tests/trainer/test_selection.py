"""What becomes of each record: thinned by class or held out by a hash, the same over passes and lives, all counted."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.chunk import Chunk
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from tests.trainer.streams import computed, ids, serving
from trainer.labels import Rejects
from trainer.ledger import Fate
from trainer.loader import StreamLoader
from trainer.sampling import SamplingSettings
from trainer.selection import Selection

RECORDS = 2000
LABELS = np.arange(RECORDS) % 4
WITHOUT_ID = ColumnSource(
    "classes", Schema((Field("label", "int64"),), label="label", label_range=(0, 3)), {"label": LABELS}
)
WITHOUT_LABEL = ColumnSource("numbers", Schema((Field("id", "int64"),)), {"id": np.arange(RECORDS)})
BOTH = ColumnSource(
    "both",
    Schema((Field("id", "int64"), Field("label", "int64")), label="label", label_range=(0, 3)),
    {"id": np.arange(RECORDS), "label": LABELS},
)

NUMBERS_AS_LABELS = ColumnSource(
    "numbers", Schema((Field("label", "float32"),), label="label"), {"label": LABELS.astype(np.float32)}
)

Loader = Callable[[], StreamLoader]


def trained(loader: StreamLoader, most: int = RECORDS * 10) -> list[int]:
    """The ids of at most so many batches; the ledger is checked after each."""
    found: list[int] = []
    for number, batch in enumerate(loader, start=1):
        found += batch["id"].tolist()
        loader.mark_trained(batch)
        loader.check_ledger()
        if number == most:
            break
    return found


def over_lives(made: Loader) -> tuple[list[int], StreamLoader]:
    """The same stream, stopped after five batches and gone on with."""
    first = made()
    found = trained(first, 5)
    second = made()
    second.load_state_dict(first.state_dict())
    return found + trained(second), second


def test_each_class_is_thinned_to_its_share_and_what_is_not_trained_is_counted() -> None:
    sampling = SamplingSettings(thin=[1.0, 0.0, 0.5, 0.1])
    with serving(computed(BOTH)) as url:

        def made() -> StreamLoader:
            return StreamLoader(url, batch_size=64, sampling=sampling, seed=3)

        whole = made()
        found = trained(whole)
        assert over_lives(made)[0] == found
    counts = np.bincount(LABELS[found], minlength=4)
    assert counts[:2].tolist() == [500, 0]
    assert 190 < counts[2] < 310  # five standard deviations
    assert 15 < counts[3] < 85
    assert whole.position.totals()["thinned"] == RECORDS - len(found)
    assert whole.position.ended


def test_a_label_that_has_no_share_is_trained() -> None:
    schema = Schema((Field("id", "int64"), Field("label", "int64")), label="label")
    source = ColumnSource("strange", schema, {"id": np.arange(40), "label": np.tile([-1, 0, 1, 2], 10)})
    with serving(computed(source)) as url:
        found = trained(StreamLoader(url, batch_size=64, sampling=SamplingSettings(thin=[0.0, 1.0])))
    assert sorted(found) == [each for each in range(40) if each % 4 != 1]


@pytest.mark.parametrize("window", [0, 300])
def test_a_record_that_is_held_out_is_so_in_every_pass_and_life(tmp_path: object, window: int) -> None:
    sampling = SamplingSettings(holdout=0.2, shuffle_window=window, holdout_records=RECORDS)
    with serving(computed(BOTH, passes=3)) as url:

        def made() -> StreamLoader:
            return StreamLoader(url, batch_size=64, sampling=sampling, seed=3, held_out=f"{tmp_path}/{window}")

        found, loader = over_lives(made)
        held = loader.held_out
        assert held is not None
        kept = {int(held[row]["id"]) for row in range(len(held))}
    assert sorted(found) == sorted(3 * [each for each in range(RECORDS) if each not in kept])
    assert 300 < len(kept) < 500
    assert loader.position.totals() | {"trained": len(found), "held_out": 3 * len(kept)} == loader.position.totals()


def test_of_a_live_stream_without_ids_records_are_held_out_by_their_place(tmp_path: object) -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send_columns(value=np.arange(1000))
    sampling = SamplingSettings(holdout=0.5)
    loader = StreamLoader(publisher.address, batch_size=10, sampling=sampling, held_out=f"{tmp_path}/held")
    trained_values: list[int] = []
    for batch in loader:
        trained_values += batch["value"].tolist()
        loader.mark_trained(batch)
        if len(trained_values) == 400:
            break
    held = loader.held_out
    assert held is not None
    values = sorted([*trained_values, *(int(held[row]["value"]) for row in range(len(held)))])
    assert values == list(range(len(values)))
    publisher.abandon()


def test_the_last_batch_of_a_stream_is_dropped_where_that_is_asked_for() -> None:
    with serving(computed(WITHOUT_LABEL)) as url:
        loader = StreamLoader(url, batch_size=300, sampling=SamplingSettings(drop_last=True))
        found = trained(loader)
        assert len(found) == 1800
        assert loader.position.totals()["skipped"] == 200
        assert loader.position.ended
        assert ids(StreamLoader(url, batch_size=300))[:1800] == found


@pytest.mark.parametrize(
    ("source", "sampling", "mend"),
    [
        (WITHOUT_ID, SamplingSettings(holdout=0.1), "let the source give an integer field 'id', or the producer --val"),
        (WITHOUT_LABEL, SamplingSettings(thin=[1.0]), "by class, and the stream has no label"),
        (NUMBERS_AS_LABELS, SamplingSettings(thin=[1.0]), "no label that is an integer"),
        (WITHOUT_LABEL, SamplingSettings(shuffle_window=9, balance=True), "by class, and the stream has no label"),
        (BOTH, SamplingSettings(thin=[1.0, 0.5]), "2 shares for 4 classes: give one for each"),
    ],
)
def test_what_does_not_go_with_the_stream_is_refused(
    tmp_path: object, source: ColumnSource, sampling: SamplingSettings, mend: str
) -> None:
    with serving(computed(source)) as url, pytest.raises(UsageError, match=mend):
        StreamLoader(url, batch_size=10, sampling=sampling, held_out=f"{tmp_path}/held").connect()


def test_where_a_stream_has_no_order_what_becomes_of_a_record_depends_on_its_place_and_no_other_partition() -> None:
    schema = Schema((Field("label", "int64"),), label="label")
    sampling = SamplingSettings(holdout=0.3, thin=[0.5])

    def fates(partitions: int, partition: int, cuts: list[int]) -> list[Fate]:
        dealing = Dealing(partitions, 100)
        info = StreamInfo(incarnation="i", schema=schema, dealing=dealing, order="arrival")
        selection = Selection(info, Rejects(None), sampling, seed=3)
        chunks = (Chunk(partition, a, {"label": np.zeros(b - a, np.int64)}, 0, 0) for a, b in pairwise(cuts))
        return [fate for chunk in chunks for start, stop, fate in selection.runs(chunk) for _ in range(start, stop)]

    found = fates(2, 1, [0, 70, 150, 500])  # a chunk may lie across a multiple of its most records
    assert found == fates(5, 1, [0, 500])
    assert found != fates(2, 0, [0, 500])
    assert 100 < found.count("held_out") < 200
    assert 100 < found.count("thinned") < 250
