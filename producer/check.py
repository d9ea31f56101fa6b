"""`python -m producer --check`: a source is read without being served, and what would go wrong is said."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.block import Block
from producer.dataset_source import source_from
from producer.doubts import doubts
from producer.open_log import open_log
from producer.sample import PATIENCE_S, Row, Sample, read_sample, records_at
from producer.source import Source
from producer.source_kind import declared_schema, kind_of, records_of
from protocol.chunk import Chunk, Ragged
from protocol.errors import HeadraceError, UsageError
from protocol.peek import table
from protocol.show import console, schema_facts

SHOWN_RECORDS: Final = 5
#: What must be mended before the source is served, and what perhaps should.
WRONG, DOUBT = "wrong", "doubt"
ALIKE: Final = (
    "make all records alike, declare a schema (None as the first dimension of a field that differs in length), or keep "
    "such records aside (--on_bad_record quarantine)"
)

#: A word, and what there is to say under it.
Line = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What the source would be served with."""

    partitions: int
    log: LogSettings
    bad: BadRecordSettings


def check(source: Any, settings: CheckSettings) -> int:
    """Print what a source gives and what would go wrong; status 0 where it would be served as promised, 2 where not."""
    kind = kind_of(source)
    dataset = source_from(source) if kind == "dataset" else None
    print(f"{type(source).__name__}: {kind}", flush=True)
    schema = declared_schema(source) if dataset is None else dataset.schema
    records = records_of(source) if dataset is None else records_at(dataset)
    bad_records = BadRecords(replace(settings.bad, on_bad_record="stop"))  # writes no quarantine
    sample = read_sample(records, schema, bad_records)
    _say(_facts(sample, declared=declared_schema(source) is not None))
    if sample.schema is not None and sample.good:
        shown = Chunk(partition=0, offset=0, columns=sample.columns(SHOWN_RECORDS), first_time_ns=0, last_time_ns=0)
        console().print(table(sample.schema, [shown]))
    lines = [*_rate(sample), *_faults(sample, settings)]
    lines += _room(sample, settings) if dataset is None else _second_reading(dataset)
    if kind == "replaying":
        lines += _replay(source, sample, bad_records)
    lines += [(DOUBT, text) for text in doubts(sample)] if sample.good else []
    _say(lines)
    mends = sum(word == WRONG for word, _ in lines)
    print(f"would not be served as promised: {mends} to mend" if mends else "would be served")
    return 2 if mends else 0


def _say(lines: Iterable[Line]) -> None:
    for word, text in lines:
        print(f"  {word:8} {text}")


def _facts(sample: Sample, *, declared: bool) -> Iterator[Line]:
    if sample.schema is not None:
        yield "schema", "declared by the source" if declared else "as the first record shows it"
        yield from schema_facts(sample.schema)


def _rate(sample: Sample) -> Iterator[Line]:
    seconds, count = max(sample.seconds, 1e-9), len(sample.rows)
    if not count:
        return
    end = ", then it ended" if sample.ended else ""
    rates = f"{count / seconds:,.0f} records/s, {sample.nbytes / seconds / 1e6:,.2f} MB/s"
    yield "read", f"{count:,} records in {seconds:.3g} s: {rates}{end}"


def _faults(sample: Sample, settings: CheckSettings) -> Iterator[Line]:
    """What ends the reading, and what is not let in."""
    if sample.failure is not None:
        yield WRONG, f"after {len(sample.rows):,} records: {sample.failure}" if sample.rows else str(sample.failure)
    elif not sample.rows:
        silent = "it ends at once" if sample.ended else f"it was silent for {PATIENCE_S:g} s"
        yield WRONG, f"no record came ({silent}): a stream needs one to begin with"
    aside = settings.bad.on_bad_record == "quarantine"
    for text, first, count in sample.faults.values():
        said = f"{text}; {count:,} of {len(sample.rows):,} records, the first is number {first:,}"
        yield (DOUBT, f"{said}: kept aside") if aside else (WRONG, f"{said}: {ALIKE}")


def _room(sample: Sample, settings: CheckSettings) -> Iterator[Line]:
    """Whether a log such as the stream's takes the sample; this one is in memory."""
    if sample.schema is None:
        return
    like = replace(settings.log, path="", bytes=settings.log.max_bytes, full="drop-oldest")
    try:
        log = open_log(sample.schema, settings.partitions, like, source="")
        assert log is not None
        for row in sample.good:
            log.append({field.name: value for field, value in zip(sample.schema.fields, row, strict=True)})
    except HeadraceError as error:
        yield WRONG, f"{error} (--log.bytes)"
        return
    stripe, ragged = log.info.dealing.stripe, [c for c in sample.columns().values() if isinstance(c, Ragged) and len(c)]
    elements = [len(column.values) * stripe // len(column) for column in ragged]
    if ragged and (stripe_bytes := Block.bytes_for(sample.schema.fields, stripe, elements)) > like.bytes:
        size = f"a stripe of {stripe} such records has about {stripe_bytes} bytes"
        yield WRONG, f"{size} and does not fit a log of {like.bytes}: enlarge it (--log.bytes)"


def _replay(source: Any, sample: Sample, bad_records: BadRecords) -> Iterator[Line]:
    """The second half of the sample, asked for again."""
    middle, end = len(sample.rows) // 2, len(sample.rows)
    if middle == end:
        return
    again = read_sample(records_of(source, middle), sample.schema, bad_records, end - middle)
    mend = "records(resume_at) must give the same ones each time, from number resume_at on"
    if (first := _first_other(sample.rows[middle:], again.rows)) is not None:
        yield WRONG, f"record {middle + first:,} is another one when asked for from number {middle:,} on: {mend}"
    elif again.failure is not None or (again.ended and len(again.rows) < end - middle):
        stopped = again.failure or f"only {len(again.rows):,} records came"
        yield WRONG, f"asked for from number {middle:,} on: {stopped}; {mend}"
    elif again.rows:
        yield "replay", f"{len(again.rows):,} records, asked for again from number {middle:,} on, are the same"
    else:
        yield WRONG, f"asked for from number {middle:,} on, it was silent for {PATIENCE_S:g} s: {mend}"


def _first_other(rows: Sequence[Row | None], again: Sequence[Row | None]) -> int | None:
    """Where two readings differ first, as far as both go: in any bit."""
    for number, (one, other) in enumerate(zip(rows, again, strict=False)):
        if (one is None) != (other is None) or any(
            a.shape != b.shape or a.tobytes() != b.tobytes() for a, b in zip(one or (), other or (), strict=True)
        ):
            return number
    return None


def _second_reading(dataset: Source) -> Iterator[Line]:
    try:
        dataset.fingerprint()
    except UsageError as error:
        yield WRONG, str(error)
    else:
        yield "replay", "the records that its identity is made of, read twice, are the same"
