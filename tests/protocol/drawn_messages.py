"""Every message of the protocol as hypothesis draws it."""

from hypothesis import strategies as st

from protocol.change import Change
from protocol.chunk import to_frames
from protocol.dealing import MAX_PARTITIONS, MAX_STRIPE, Dealing
from protocol.messages import (
    Bye,
    ChunkMessage,
    ColumnsMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Done,
    Drop,
    Dropped,
    End,
    Greeting,
    GroupState,
    Hello,
    Push,
    RecordsMessage,
    Refusal,
    Reply,
    Request,
    Status,
    Subscribe,
    Taken,
    Welcome,
)
from protocol.stream import SPLIT_NAME, StreamInfo
from protocol.values import MAX_NUMBER
from tests.protocol.drawn_columns import chunks, schemas

numbers = st.integers(0, MAX_NUMBER)
moments = st.integers(-MAX_NUMBER, MAX_NUMBER)
split_names = st.from_regex(SPLIT_NAME, fullmatch=True).filter(lambda name: len(name) <= 20)
texts = st.text(max_size=20)
positions = st.dictionaries(st.integers(0, MAX_PARTITIONS - 1), numbers, max_size=5)
seconds = st.floats(0, 1e12)


@st.composite
def _changes(draw: st.DrawFn) -> Change:
    at, over = draw(st.integers(0, 300)), draw(st.integers(0, 250))
    length = draw(st.none() | st.integers(max(1, over), 300))
    again = 0 if length is None else draw(st.just(0) | st.integers(length, 400))
    return Change(what="dusk", at=at, until=None if length is None else at + length, over=over, every=again)


changes = _changes()
infos = st.builds(
    StreamInfo,
    incarnation=texts,
    schema=schemas,
    dealing=st.builds(Dealing, st.integers(1, MAX_PARTITIONS), st.integers(1, MAX_STRIPE)),
    splits=st.dictionaries(split_names, numbers, max_size=3),
    records_per_pass=st.none() | numbers,
    changes=st.lists(changes, max_size=3).map(tuple),
    source=texts,
) | st.builds(
    StreamInfo,
    incarnation=texts,
    schema=schemas,
    dealing=st.builds(Dealing, st.integers(1, MAX_PARTITIONS), st.integers(1, MAX_STRIPE)),
    order=st.just("arrival"),
)
groups = st.builds(
    GroupState,
    name=texts,
    durable=st.booleans(),
    readers=numbers,
    silent_s=seconds,
    committed=positions,
    trained=positions,
)


@st.composite
def chunk_messages(draw: st.DrawFn) -> ChunkMessage:
    schema, chunk = draw(chunks())
    return ChunkMessage(
        session=draw(numbers),
        partition=chunk.partition,
        offset=chunk.offset,
        count=chunk.count,
        first_time_ns=chunk.first_time_ns,
        last_time_ns=chunk.last_time_ns,
        source_s=draw(seconds),
        frames=tuple(bytes(frame) for frame in to_frames(schema, chunk.columns)),
    )


REQUESTS: dict[type[Request], st.SearchStrategy[Request]] = {
    Describe: st.builds(Describe, request=numbers, split=texts, time_ns=st.none() | moments),
    Subscribe: st.builds(
        Subscribe,
        session=numbers,
        split=texts,
        group=st.none() | texts,
        durable=st.booleans(),
        incarnation=st.none() | texts,
        positions=positions,
        trained=positions,
        committed=st.none() | positions,
    ),
    Credit: st.builds(Credit, session=numbers, until=positions, trained=positions, durable=st.booleans()),
    Commit: st.builds(Commit, request=numbers, group=texts, incarnation=texts, positions=positions),
    Drop: st.builds(Drop, request=numbers, group=texts),
    Bye: st.builds(Bye, session=numbers),
}
moments_or_none = st.none() | st.integers(-MAX_NUMBER, MAX_NUMBER)
frames = st.lists(st.binary(max_size=20), max_size=3).map(tuple)
PUSHES: dict[type[Push], st.SearchStrategy[Push]] = {
    Hello: st.builds(Hello, session=numbers, writer=texts, schema=st.none() | schemas),
    RecordsMessage: st.builds(
        RecordsMessage, session=numbers, number=numbers, count=numbers, time_ns=moments_or_none, frames=frames
    ),
    ColumnsMessage: st.builds(
        ColumnsMessage, session=numbers, number=numbers, count=numbers, time_ns=moments_or_none, frames=frames
    ),
    Done: st.builds(Done, session=numbers, number=numbers),
}
REPLIES: dict[type[Reply], st.SearchStrategy[Reply]] = {
    Description: st.builds(
        Description,
        request=numbers,
        info=infos,
        log_start=positions,
        log_end=positions,
        ended=st.booleans(),
        uptime_s=seconds,
        refused=numbers,
        groups=st.lists(groups, max_size=3).map(tuple),
        at=st.none() | positions,
    ),
    Welcome: st.builds(Welcome, session=numbers, info=infos, log_end=positions),
    ChunkMessage: chunk_messages(),
    Status: st.builds(
        Status, session=numbers, next=positions, log_end=positions, save_soon=st.booleans(), source_s=seconds
    ),
    End: st.builds(End, session=numbers, final=positions),
    Committed: st.builds(Committed, request=numbers, group=texts),
    Dropped: st.builds(Dropped, request=numbers, group=texts, known=st.booleans()),
    Refusal: st.builds(
        Refusal,
        code=texts,
        text=texts,
        session=st.none() | numbers,
        request=st.none() | numbers,
        partition=st.none() | numbers,
        first=st.none() | numbers,
        end=st.none() | numbers,
        incarnation=st.none() | texts,
        log_start=st.none() | positions,
    ),
    Greeting: st.builds(
        Greeting, session=numbers, schema=st.none() | schemas, due=numbers, durable=numbers, until=numbers
    ),
    Taken: st.builds(Taken, session=numbers, due=numbers, durable=numbers, until=numbers, done=st.booleans()),
}
requests = st.one_of(*REQUESTS.values())
pushes = st.one_of(*PUSHES.values())
replies = st.one_of(*REPLIES.values())
