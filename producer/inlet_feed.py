"""An inlet on the command line: a socket to which anybody pushes, in a thread of its own, fed into a log."""

import threading
import time

from producer.append_log import AppendLog
from producer.inlet import Inlet, InletSettings
from producer.intake import Intake
from producer.server import Server
from protocol.server_socket import ServerSocket


class InletFeed:
    """Takes in what writers push at `socket`, whose door is `WRITERS`. `error` is what it died of, if it did."""

    def __init__(self, socket: ServerSocket, intake: Intake, settings: InletSettings) -> None:
        self.error: Exception | None = None
        self._socket, self._intake = socket, intake
        self._inlet = Inlet(intake, settings)
        self._server = Server(self._inlet, socket)
        self._thread = threading.Thread(target=self._run, name="headrace-inlet", daemon=True)

    @property
    def address(self) -> str:
        """Where writers push."""
        return self._socket.address

    @property
    def log(self) -> AppendLog:
        """Where the records go."""
        assert self._intake.log is not None, "wait_for_log comes before"
        return self._intake.log

    def wait_for_log(self) -> AppendLog:
        """The log, as soon as it is known what a record is: where no folder says it, the first writer will."""
        if self._intake.log is None:
            print(f"waiting for a first writer at {self.address}", flush=True)
        while self._intake.log is None:
            self._server.turn(time.monotonic())
            self._socket.wait(self._inlet.due_in_s())
        return self._intake.log

    def start(self) -> None:
        """Go on in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Take in nothing more, and release the socket."""
        self._server.stop()
        self._thread.join()
        self._server.close()

    def _run(self) -> None:
        try:
            self._server.serve()
        except Exception as error:  # noqa: BLE001  (raised again where the producer serves)
            self.error = error
