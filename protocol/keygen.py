"""`python -m protocol keygen`: makes the folders of keys, one for each machine.

    keys/producer   producer.key_secret  producer.key  allowed_clients     to the producer's machine
    keys/trainer    client.key_secret    client.key    producer.key        to the trainer's machine

Another run on the same folder adds further clients. Nothing that is there is written over.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from zmq.auth import create_certificates, load_certificate

from protocol.errors import UsageError
from protocol.security import ALLOWED, CLIENT, PRODUCER, PUBLIC, RIGHTS

HEAD = f"""# Who may connect to this producer: a line for each client, with its name, its rights and its public key.
# The rights are one of {", ".join(RIGHTS)}: a training run needs read,commit, whoever
# only looks needs read, whoever pushes records through the inlet needs push.
# A change is seen within a second. A key whose line is gone is let in no more, and what it reads ends.
"""


def make_keys(folder: Path, names: Sequence[str], rights: str) -> list[str]:
    """Make the producer's folder where there is none, and one for each client; what was made, for people.

    Folders are open to their owner alone (mode 0700), and secrets too (0600). Raises `UsageError` where a name cannot
    be one or is taken.
    """
    _check_names(folder, names, rights)
    made: list[str] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        producer = folder / PRODUCER
        if not producer.exists():
            _make_pair(producer, PRODUCER)
            (producer / ALLOWED).write_text(HEAD, "utf-8")
            (producer / ALLOWED).chmod(0o600)
            made.append(f"{producer}: for the producer's machine (python -m producer --keys {producer})")
        for name in names:
            client = folder / name
            _make_pair(client, CLIENT)
            shutil.copy(producer / f"{PRODUCER}{PUBLIC}", client)
            public, _ = load_certificate(client / f"{CLIENT}{PUBLIC}")
            _allow(producer / ALLOWED, f"{name}  {rights}  {public.decode()}\n")
            made.append(f"{client}: for the machine of {name}, which may {rights} (--keys {client})")
    except OSError as error:
        raise UsageError(f"no keys can be made in {folder} ({error.strerror}: {error.filename})") from error
    return made


def _check_names(folder: Path, names: Sequence[str], rights: str) -> None:
    if rights not in RIGHTS:
        raise UsageError(f"--rights {rights}: give one of {', '.join(RIGHTS)}")
    for name in names:
        if name.split() != [name] or name.startswith((".", "#")) or "/" in name or name == PRODUCER:
            raise UsageError(f"{name!r} cannot be a client's name: give a word, which becomes its folder in {folder}")
        if (folder / name).exists():
            raise UsageError(f"{folder / name} is there already: give another name, or take it away first")
    if len(set(names)) < len(names):
        raise UsageError("a name stands there twice: each client has a folder of its own")


def _allow(path: Path, line: str) -> None:
    whole = path.read_text("utf-8").endswith("\n")  # an editor may have left the last line open
    with path.open("a", encoding="utf-8") as allowed:
        allowed.write(line if whole else f"\n{line}")


def _make_pair(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    _, secret = create_certificates(folder, name)
    Path(secret).chmod(0o600)  # nobody else could look into the folder meanwhile
    Path(folder / f"{name}{PUBLIC}").chmod(0o644)
