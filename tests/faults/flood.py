"""A source that gives what it has as fast as it may: `python -m tests.faults.flood URL FULL FIRST RECORDS GO`.

Sends the first records, and the rest once the file GO is there; then it says by partition what its log has dropped.
A log that blocks is ended and waited for, one that drops is served until the program is stopped.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from producer.publisher import Publisher

LOG_BYTES, AT_ONCE, PAYLOAD = 64 << 20, 4096, 777


def main(url: str, full: str, first: int, records: int, go: Path) -> None:
    payload = np.zeros((AT_ONCE, PAYLOAD), np.uint8)
    stream = Publisher(url, max_bytes=LOG_BYTES, full=full, partitions=4)  # type: ignore[arg-type]
    for begin in range(0, records, AT_ONCE):
        while begin >= first and not go.exists():
            time.sleep(0.01)
        ids = np.arange(begin, min(begin + AT_ONCE, records))
        stream.send_columns(id=ids, payload=payload[: len(ids)])
    print(json.dumps(stream.dropped), flush=True)
    if full == "block":
        stream.close()
    while full != "block":
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
