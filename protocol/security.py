"""Who may speak to whom: the folders of keys, and the list of the clients that a producer lets in.

Keys are CURVE pairs (https://rfc.zeromq.org/spec/26) in the files that `zmq.auth` writes; protocol/keygen.py makes the
folders. What a mistake in them is, is said in one line; what is secret is never shown.
"""

import logging
import shlex
import struct
import threading
import time
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Final

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from protocol.errors import UsageError
from protocol.rate_limit import RateLimit

logger = logging.getLogger(__name__)

PUBLIC, SECRET = ".key", ".key_secret"
PRODUCER, CLIENT = "producer", "client"
ALLOWED: Final = "allowed_clients"
#: Strangers may fail as often as they like.
SAID_EVERY_S: Final = 10.0
KEY_LENGTH: Final = 40
MAKES: Final = "python -m protocol keygen DIR makes them"


class Right(Flag):
    """What a client may do."""

    READ = auto()
    """Ask what there is, and read it."""
    COMMIT = auto()
    """Speak for a group: hold records back, and say which the log may forget."""
    PUSH = auto()
    """Push records into the stream, in the name of any writer."""


NOTHING: Final = Right(0)
EVERYTHING: Final = Right.READ | Right.COMMIT | Right.PUSH
#: How the list of clients says them.
RIGHTS: Final = {
    "read": Right.READ,
    "commit": Right.COMMIT,
    "read,commit": Right.READ | Right.COMMIT,
    "push": Right.PUSH,
    "read,push": Right.READ | Right.PUSH,
    "read,commit,push": EVERYTHING,
}


@dataclass(frozen=True)
class KeyPair:
    """A CURVE pair, in the 40 characters of Z85 each."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class ClientKeys:
    """What a reader needs: its own pair, and the key by which it knows the producer."""

    own: KeyPair
    producer: bytes
    folder: Path


@dataclass(frozen=True)
class ProducerKeys:
    """What a producer needs: its own pair, and whom it lets in."""

    pair: KeyPair
    clients: "AllowedClients"


def client_keys(folder: str | Path) -> ClientKeys:
    """A client's folder. Raises `UsageError`."""
    path = _folder(folder, of=CLIENT, other=PRODUCER)
    return ClientKeys(_pair(path / f"{CLIENT}{SECRET}"), _public(path / f"{PRODUCER}{PUBLIC}"), path)


def producer_keys(folder: str | Path) -> ProducerKeys:
    """A producer's folder. Raises `UsageError`."""
    path = _folder(folder, of=PRODUCER, other=CLIENT)
    return ProducerKeys(_pair(path / f"{PRODUCER}{SECRET}"), AllowedClients(path / ALLOWED))


class AllowedClients:
    """The clients that may connect, and their rights: a file with a line for each, read anew when it has changed.

        trainer  read,commit  Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID

    A changed list that cannot be read is said, and the one before it stays in force. May be asked from any thread.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._seldom = path, threading.Lock(), RateLimit(SAID_EVERY_S)
        self._stamp = _stamp(path)
        self._clients = _read_list(path)
        self._names = {key: name for key, (name, _) in self._clients.items()}
        #: Grows with each change.
        self.version = 0

    def rights_of(self, key: str) -> Right:
        """What the owner of a public key may do."""
        return self._clients[key][1] if key in self._clients else NOTHING

    def name_of(self, key: str) -> str:
        """What the list calls, or called, the owner of a public key; the key itself where it never had such a line."""
        return self._names.get(key, key)

    def refresh(self) -> None:
        """Read the list anew if it has changed."""
        with self._lock:
            if (stamp := _stamp(self._path)) == self._stamp:
                return
            self._stamp = stamp
            try:
                self._clients = _read_list(self._path)
            except UsageError as error:
                logger.error("%s; the list as it was stays in force", error)  # noqa: TRY400  (the user's mistake: one line)
                return
            self._names |= {key: name for key, (name, _) in self._clients.items()}
            self.version += 1
            logger.info("%s has changed: it names %d", self._path, len(self._clients))

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a handshake succeeds: what `zmq.auth` asks of a provider of credentials, in a thread of its own."""
        del domain
        self.refresh()
        user = key.decode()
        allowed = self.rights_of(user) != NOTHING
        if not allowed and self._seldom.allows(time.monotonic()):
            more = f" (and {self._seldom.held} more were refused)" if self._seldom.held else ""
            logger.warning("refused a client: %s does not name %s%s", self._path, user, more)
        return allowed


def _read_list(path: Path) -> dict[str, tuple[str, Right]]:
    """Name and rights by public key."""
    _check_mode(path, 0o022, "written by others", "go-w")
    text = _text(path)
    if not text:
        raise UsageError(f"{path} is empty: it needs a line for each client, at least a comment")
    clients: dict[str, tuple[str, Right]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 3 or words[1] not in RIGHTS or not _is_key(words[2].encode()):
            raise UsageError(f"{path}, line {number}: a line is NAME RIGHTS KEY, its rights one of {', '.join(RIGHTS)}")
        name, rights, key = words
        if key in clients:
            raise UsageError(f"{path}, line {number}: the key stands there already, as that of {clients[key][0]}")
        clients[key] = name, RIGHTS[rights]
    return clients


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs once a file was changed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# --- key files ---------------------------------------------------------------------------------------------------


def _folder(folder: str | Path, *, of: str, other: str) -> Path:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"--keys {path}: there is no such folder; {MAKES}")
    if not (path / f"{of}{SECRET}").exists():
        if (path / f"{other}{SECRET}").exists():
            raise UsageError(f"--keys {path}: these are the keys of a {other}; give the folder of a {of}")
        if (path / PRODUCER / f"{PRODUCER}{SECRET}").exists():
            raise UsageError(f"--keys {path}: give one of the folders in it, that of this {of}")
        raise UsageError(f"--keys {path}: {of}{SECRET} is missing; {MAKES}")
    _check_mode(path, 0o022, "written by others", "go-w")
    return path


def _pair(path: Path) -> KeyPair:
    _check_mode(path, 0o077, "read by others", "600")
    public, secret = _load(path)
    if secret is None:
        raise UsageError(f"{path} holds no secret key: it is a public file; copy the one that keygen made")
    if not _is_key(public) or not _is_key(secret) or zmq.curve_public(secret) != public:
        raise UsageError(f"{path} is damaged: its keys are no pair; copy it anew")
    return KeyPair(public, secret)


def _public(path: Path) -> bytes:
    _check_mode(path, 0o022, "written by others", "go-w")
    public, secret = _load(path)
    if secret is not None:
        raise UsageError(f"{path} holds a secret key, which must not leave its machine: copy the public file instead")
    if not _is_key(public):
        raise UsageError(f"{path} is damaged: it holds no key; copy it anew")
    return public


def _load(path: Path) -> tuple[bytes, bytes | None]:
    _text(path)
    try:
        return load_certificate(path)
    except (ValueError, IndexError) as error:
        raise UsageError(f"{path} is no key file: {MAKES}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {MAKES}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: {MAKES}") from error


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == KEY_LENGTH and len(z85.decode(text)) == 32
    except (KeyError, struct.error):
        return False


def _check_mode(path: Path, forbidden: int, what: str, mode: str) -> None:
    try:
        found = path.stat().st_mode & 0o777
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {MAKES}") from error
    if found & forbidden:
        raise UsageError(f"{path} can be {what} (its mode is {found:03o}): chmod {mode} {shlex.quote(str(path))}")
