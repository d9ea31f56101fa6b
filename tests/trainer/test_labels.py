"""Records that a foreign producer should not have served: kept aside with their places, in no batch, and counted."""

import random
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from producer.computed_log import ComputedLog
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.quarantine import read_quarantine
from protocol.schema import Field, Schema
from tests.trainer.streams import serving
from trainer.loader import StreamLoader

SCHEMA = Schema((Field("id", "int64"), Field("label", "int8")), label="label", label_range=(0, 9))


def labelled(records: int, bad: Collection[int], dealing: Dealing) -> ComputedLog:
    """Records in the order of their ids, served as they are: a computed log holds nothing against a label's range."""
    labels = (np.arange(records) % 10).astype(np.int8)
    labels[list(bad)] = [-1 if record % 2 else 99 for record in bad]
    source = ColumnSource("labelled", SCHEMA, {"id": np.arange(records), "label": labels})
    return ComputedLog(source, dealing, passes=1, shuffle=False)


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 7), (0, 64), (1, 7)])
def test_they_reach_no_batch_and_every_other_record_does_in_its_order(
    tmp_path: Path, seed: int, workers: int, batch_size: int
) -> None:
    records, dealing = 12_000, Dealing(3, 2048)
    drawn = random.Random(seed)
    bad = sorted({0, *range(2048, 4096), *drawn.sample(range(records), 40), records - 2, records - 1})
    with serving(labelled(records, bad, dealing)) as url:
        loader = StreamLoader(url, batch_size=batch_size, num_workers=workers, quarantine=tmp_path / "bad.jsonl")
        found: list[int] = []
        for number, batch in enumerate(loader):
            found += batch["id"].tolist()
            if number % 50 == 0:
                passed = {dealing.record(p, offset) for p, end in batch.positions.items() for offset in range(end)}
                assert set(found) == passed - set(bad)
            if number % 3 == 0:  # late marking: what was rejected passes with what lies around it
                loader.mark_trained(batch)
                loader.check_ledger()
        loader.mark_trained(batch)
        assert found == sorted(set(range(records)) - set(bad))
        assert loader.position.ended
        assert loader.position.totals()["rejected"] == len(bad)
        loader.check_ledger()
    kept = list(read_quarantine(tmp_path / "bad.jsonl"))
    assert sorted(each["record"]["id"].item() for each in kept) == bad
    for each in kept:
        assert dealing.record(each["partition"], each["offset"]) == each["record"]["id"]
        assert each["reason"].startswith(f"label {each['record']['label']} at partition {each['partition']}")
