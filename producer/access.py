"""Which rights a request needs. What lets the log forget, or holds it back, is said in the name of a group."""

from protocol.errors import AccessDenied
from protocol.messages import (
    STREAM,
    Bye,
    ColumnsMessage,
    Commit,
    Credit,
    Describe,
    Done,
    Drop,
    Hello,
    Push,
    RecordsMessage,
    Request,
    Subscribe,
)
from protocol.security import NOTHING, Right


def check_right(request: Request | Push, user: str, given: Right) -> None:
    """Raise `AccessDenied` where the rights that `user` has been given are not enough."""
    if missing := right_for(request) & ~given:
        names = " and ".join(str(right.name).lower() for right in missing)
        what = f"{type(request).__name__.lower()} needs the right to {names}"
        raise AccessDenied(f"{what}, which the producer's allowed_clients does not give {user}")


def right_for(request: Request | Push) -> Right:
    """The rights that a request needs.

    Credit, farewell and what a writer pushes belong to a session, for which they were checked: it ends with the rights
    that it needs.
    """
    match request:
        case Commit() | Drop():
            return Right.COMMIT
        case Subscribe():
            return right_to_read(request.group if request.split == STREAM else None)
        case Describe():
            return Right.READ
        case Hello():
            return Right.PUSH
        case Credit() | Bye() | RecordsMessage() | ColumnsMessage() | Done():
            return NOTHING


def right_to_read(group: str | None) -> Right:
    """For a subscription: one that bears a group's name pins records, and releases what it says to have trained."""
    return Right.READ if group is None else Right.READ | Right.COMMIT
