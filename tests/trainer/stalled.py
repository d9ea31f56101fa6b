"""A trainer, as far as its producer can see, that can be stopped: reads a stream to its end, says how much came."""

import sys

from protocol.chunk import Chunk
from protocol.messages import STREAM
from protocol.open_reader import open_reader
from protocol.subscription import Subscription


def main(url: str, group: str) -> None:
    """Print a line when the first records have come, and the number of records at the end."""
    count = 0
    with open_reader(url) as reader:
        description = reader.describe(timeout_s=60)
        asked = Subscription(split=STREAM, positions=description.log_start, group=group)
        for events in reader.read(asked):
            records = sum(event.count for event in events if isinstance(event, Chunk))
            if records and not count:
                print("reading", flush=True)
            count += records
    print(count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
