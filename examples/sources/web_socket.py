"""A WebSocket feed of JSON objects: each message a record, its keys the fields. Needs `pip install websockets`.

    python -m producer --source examples.sources.web_socket.messages --source.url ws://HOST:PORT --log.path feed.log
    python -m protocol peek tcp://127.0.0.1:5555

It is live: what is sent while nobody listens is not there, so the promise begins in the log. A message that is no JSON
object does not fit and is said (`--on_bad_record quarantine` goes on behind it).
"""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosedError, InvalidHandshake
from websockets.sync.client import connect

logger = logging.getLogger(__name__)


def messages(url: str, pause_s: float = 1.0) -> Iterator[Any]:
    """Messages until the server closes the connection cleanly; a connection that is lost is made anew.

    Args:
        url: ws://HOST:PORT/PATH or wss://
        pause_s: seconds before the next try
    """
    while True:
        try:
            with connect(url) as socket:
                for message in socket:
                    yield decoded(message)
                return
        except (OSError, InvalidHandshake, ConnectionClosedError) as error:
            logger.warning("%s: %s; trying again", url, error)
            time.sleep(pause_s)


def decoded(message: str | bytes) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return message
