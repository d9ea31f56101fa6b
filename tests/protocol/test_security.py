"""Folders of keys and the list of clients: each mistake in one line with its mend, and nothing secret in sight."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.keygen import make_keys
from protocol.security import (
    NOTHING,
    RIGHTS,
    AllowedClients,
    Right,
    client_keys,
    producer_keys,
)

#: The public keys of the examples in zmq_curve(7): fixed, since they stand in the names of tests.
KEY, OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["trainer"], "read,commit")
    return tmp_path / "keys"


# --- folders -----------------------------------------------------------------------------------------------------


def test_what_keygen_made_is_read_and_the_two_sides_know_each_other(keys: Path) -> None:
    client, producer = client_keys(keys / "trainer"), producer_keys(keys / "producer")
    assert client.producer == producer.pair.public
    assert producer.clients.rights_of(client.own.public.decode()) == Right.READ | Right.COMMIT
    assert zmq.curve_public(client.own.secret) == client.own.public


def test_nothing_secret_is_shown_of_keys(keys: Path) -> None:
    client, producer = client_keys(keys / "trainer"), producer_keys(keys / "producer")
    shown = f"{client!r} {client} {producer!r} {producer}"
    assert client.own.public.decode() in shown, "else nothing was looked at"
    assert client.own.secret.decode() not in shown
    assert producer.pair.secret.decode() not in shown


def damage(path: Path, text: bytes) -> None:
    path.write_bytes(text)


CLIENT_MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such folder": (lambda keys: (keys / "trainer").rename(keys / "away"), "there is no such folder; .* keygen"),
    "no secret": (lambda keys: (keys / "trainer/client.key_secret").unlink(), "client.key_secret is missing"),
    "no producer": (lambda keys: (keys / "trainer/producer.key").unlink(), "producer.key cannot be read"),
    "readable": (lambda keys: (keys / "trainer/client.key_secret").chmod(0o640), r"mode is 640.*: chmod 600 .*secret"),
    "writable": (
        lambda keys: (keys / "trainer/producer.key").chmod(0o666),
        r"written by others.*: chmod go-w .*r\.key",
    ),
    "open folder": (lambda keys: (keys / "trainer").chmod(0o777), r"written by others.*: chmod go-w .*trainer"),
    "public for secret": (
        lambda keys: damage(keys / "trainer/client.key_secret", (keys / "trainer/client.key").read_bytes()),
        "holds no secret key: it is a public file",
    ),
    "secret for public": (
        lambda keys: damage(keys / "trainer/producer.key", (keys / "producer/producer.key_secret").read_bytes()),
        "must not leave its machine",
    ),
    "another's secret": (
        lambda keys: damage(
            keys / "trainer/client.key_secret",
            f'public-key = "{KEY}"\nsecret-key = "{zmq.curve_keypair()[1].decode()}"\n'.encode(),
        ),
        "its keys are no pair",
    ),
    "no key": (lambda keys: damage(keys / "trainer/producer.key", b"hello\n"), "is no key file"),
    "no text": (lambda keys: damage(keys / "trainer/producer.key", b"\xff\xfe\0"), "is no text"),
    "half a key": (lambda keys: damage(keys / "trainer/producer.key", b'public-key = "abc"\n'), "holds no key"),
}


@pytest.mark.parametrize("name", CLIENT_MISTAKES)
def test_a_mistake_in_a_clients_folder_is_one_line_with_the_mend(keys: Path, name: str) -> None:
    make, mend = CLIENT_MISTAKES[name]
    secret = client_keys(keys / "trainer").own.secret.decode()
    make(keys)
    with pytest.raises(UsageError, match=mend) as error:
        client_keys(keys / "trainer")
    assert "\n" not in str(error.value)
    assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("read", "folder", "mend"),
    [
        (client_keys, "producer", "these are the keys of a producer; give the folder of a client"),
        (producer_keys, "trainer", "these are the keys of a client; give the folder of a producer"),
        (client_keys, "", "give one of the folders in it, that of this client"),
        (producer_keys, "", "give one of the folders in it, that of this producer"),
    ],
)
def test_the_wrong_folder_is_told_from_the_right_one(
    keys: Path, read: Callable[[Path], object], folder: str, mend: str
) -> None:
    with pytest.raises(UsageError, match=mend):
        read(keys / folder)


# --- the list ----------------------------------------------------------------------------------------------------


def allowing(path: Path, text: str) -> AllowedClients:
    path.write_text(text)
    path.chmod(0o600)
    return AllowedClients(path)


def test_a_line_gives_a_key_its_rights_and_its_name(tmp_path: Path) -> None:
    clients = allowing(tmp_path / "allowed", f"# all of them\n\na read {KEY}\n  b\tread,commit   {OTHER}  \n")
    assert clients.rights_of(KEY) == Right.READ
    assert clients.rights_of(OTHER) == Right.READ | Right.COMMIT
    assert clients.rights_of("") == NOTHING
    assert (clients.name_of(KEY), clients.name_of("?")) == ("a", "?")


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        (f"a {KEY}", "line 1: a line is NAME RIGHTS KEY, its rights one of read, commit, read,commit"),
        (f"a write {KEY}", "line 1"),
        (f"# ok\na read {KEY[:-1]}", "line 2"),
        (f"a read {KEY[:-1]}~", "line 1"),
        (f"a read {KEY} and more", "line 1"),
        (f"a read {KEY}\nb commit {KEY}", "line 2: the key stands there already, as that of a"),
        ("", "is empty"),
    ],
)
def test_a_list_that_is_none_is_refused_with_the_line(tmp_path: Path, text: str, mend: str) -> None:
    with pytest.raises(UsageError, match=mend):
        allowing(tmp_path / "allowed", text)


def test_a_list_that_others_can_write_is_refused(tmp_path: Path) -> None:
    allowing(tmp_path / "allowed", "#").refresh()
    (tmp_path / "allowed").chmod(0o660)
    with pytest.raises(UsageError, match=r"written by others.*chmod go-w"):
        AllowedClients(tmp_path / "allowed")


@given(st.text())
@settings(max_examples=60)
def test_whatever_the_list_says_it_is_a_list_or_the_users_mistake(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("list") / "allowed"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    with suppress(UsageError):
        assert AllowedClients(path).rights_of(KEY) == NOTHING, "a key that the text does not have"


@given(st.dictionaries(st.integers(0, 50), st.sampled_from(sorted(RIGHTS)), max_size=20))
@settings(max_examples=60)
def test_every_list_that_is_one_gives_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, rights: dict[int, str]
) -> None:
    path = tmp_path_factory.mktemp("list") / "allowed"
    key = {number: f"{number:05d}" * 8 for number in rights}
    clients = allowing(path, "#\n" + "".join(f"n{each} {said} {key[each]}\n" for each, said in rights.items()))
    assert {each: clients.rights_of(key[each]) for each in rights} == {each: RIGHTS[rights[each]] for each in rights}


def change(path: Path, text: str) -> None:
    """So that its time differs however coarse the clock of the file system is."""
    path.write_text(text)
    later_ns = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later_ns, later_ns))


def test_a_change_counts_from_the_next_look(tmp_path: Path) -> None:
    clients = allowing(tmp_path / "allowed", f"a read {KEY}\n")
    change(tmp_path / "allowed", f"a commit {KEY}\nb read {OTHER}\n")
    assert clients.rights_of(OTHER) == NOTHING
    clients.refresh()
    assert (clients.rights_of(KEY), clients.rights_of(OTHER), clients.version) == (Right.COMMIT, Right.READ, 1)
    clients.refresh()
    assert clients.version == 1, "nothing has changed since"


@pytest.mark.parametrize("text", ["", "nonsense", None])
def test_a_changed_list_that_cannot_be_read_is_said_once_and_the_one_before_stays(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clients = allowing(tmp_path / "allowed", f"a read {KEY}\n")
    if text is None:
        (tmp_path / "allowed").unlink()
    else:
        change(tmp_path / "allowed", text)
    for _ in range(3):
        clients.refresh()
    assert (clients.rights_of(KEY), clients.version) == (Right.READ, 0)
    (said,) = caplog.messages
    assert said.endswith("the list as it was stays in force")
    allowing(tmp_path / "allowed", f"b read {OTHER}\n# now it is\n")
    clients.refresh()
    assert (clients.rights_of(KEY), clients.rights_of(OTHER)) == (NOTHING, Right.READ)


def test_only_who_has_a_right_is_let_in_and_a_refusal_names_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clients = allowing(tmp_path / "allowed", f"a read {KEY}\n")
    assert clients.callback("headrace", KEY.encode())
    for _ in range(5):
        assert not clients.callback("headrace", OTHER.encode())
    assert caplog.messages == [f"refused a client: {tmp_path / 'allowed'} does not name {OTHER}"]
