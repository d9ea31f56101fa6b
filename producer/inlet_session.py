"""The inlet's side of one writer, without socket, clock or thread.

It keeps only soft state: what of a writer was taken, the log knows. An inlet that was restarted says that it knows no
such session, and the writer says hello again.
"""

from protocol.errors import OutOfRange
from protocol.messages import ColumnsMessage, Done, Greeting, Hello, RecordsMessage, Refusal, Taken
from protocol.schema import Schema


class InletSession:
    """One writer: how far its credit reaches, and what it was told. Times are seconds of any monotonic clock.

    `due` is the number of the record that the log wants next of this writer, those below `durable` are durable; credit
    reaches `window` records beyond them. `user` is whose session it is, where the server knows.
    """

    def __init__(self, hello: Hello, window: int, now_s: float, user: str = "") -> None:
        self.token, self.writer, self.user = hello.session, hello.writer, user
        self.heard_s = now_s
        self._window = window
        self._until = 0
        self._final: int | None = None
        self._told: Taken | None = None
        self._tell_again_s = now_s
        self._gap_told: int | None = None

    def greeting(self, schema: Schema | None, due: int, durable: int) -> Greeting:
        """The answer to a hello."""
        until = self._grant(durable)
        return Greeting(session=self.token, schema=schema, due=due, durable=durable, until=until)

    def check(self, push: RecordsMessage | ColumnsMessage) -> None:
        """Raise `OutOfRange` for what no honest writer sends."""
        if push.count < 1:
            raise OutOfRange("a message of no records")
        if push.number + push.count > self._until:
            raise OutOfRange(f"records up to {push.number + push.count} where credit ends at {self._until}")

    def gap(self, number: int, due: int) -> Refusal | None:
        """What to say where records between were lost, or never sent; once for each that is due."""
        if due == self._gap_told:
            return None
        self._gap_told = due
        text = f"record {number} has come where {due} is due: send again from there"
        return Refusal(code="gap", text=text, session=self.token, first=number, end=due)

    def finish(self, done: Done, due: int) -> None:
        """The writer has said how many records it has given, all of which were taken."""
        if done.number < due:
            raise OutOfRange(f"a writer of {done.number} records, of whom {due} were taken")
        self._final = done.number

    def taken(self, due: int, durable: int, now_s: float, every_s: float) -> Taken | None:
        """What is to be said to the writer, where there is something new or a sign of life is due."""
        done = self._final is not None and durable >= self._final
        taken = Taken(session=self.token, due=due, durable=durable, until=self._grant(durable), done=done)
        if taken == self._told and now_s < self._tell_again_s:
            return None
        self._told, self._tell_again_s = taken, now_s + every_s
        return taken

    def _grant(self, durable: int) -> int:
        self._until = max(self._until, durable + self._window)
        return self._until
