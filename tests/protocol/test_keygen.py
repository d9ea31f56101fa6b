"""`python -m protocol keygen`: folders that are right at once, and never a key written over."""

from pathlib import Path

import pytest

from protocol.__main__ import main
from protocol.errors import UsageError
from protocol.security import Right, client_keys, producer_keys


def rights(keys: Path, name: str) -> Right:
    return producer_keys(keys / "producer").clients.rights_of(client_keys(keys / name).own.public.decode())


def modes(keys: Path) -> dict[str, str]:
    return {str(path.relative_to(keys.parent)): f"{path.stat().st_mode & 0o777:o}" for path in [keys, *keys.rglob("*")]}


def test_one_run_makes_a_folder_for_each_machine_open_to_its_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    assert main(["keygen", str(keys)]) == 0
    assert modes(keys) == {
        "keys": "700",
        "keys/producer": "700",
        "keys/producer/producer.key": "644",
        "keys/producer/producer.key_secret": "600",
        "keys/producer/allowed_clients": "600",
        "keys/trainer": "700",
        "keys/trainer/client.key": "644",
        "keys/trainer/client.key_secret": "600",
        "keys/trainer/producer.key": "644",
    }
    assert rights(keys, "trainer") == Right.READ | Right.COMMIT
    shown = capsys.readouterr().out
    assert f"python -m producer --keys {keys}/producer" in shown
    assert f"--keys {keys}/trainer" in shown
    assert client_keys(keys / "trainer").own.secret.decode() not in shown


def test_another_run_adds_clients_to_the_same_producer(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    main(["keygen", str(keys)])
    pair = producer_keys(keys / "producer").pair
    allowed = keys / "producer/allowed_clients"
    allowed.write_text(allowed.read_text().rstrip("\n"))  # as some editors leave it
    assert main(["keygen", str(keys), "viewer", "lab", "--rights", "read"]) == 0
    assert producer_keys(keys / "producer").pair == pair
    assert client_keys(keys / "lab").producer == pair.public
    assert rights(keys, "trainer") == Right.READ | Right.COMMIT
    assert rights(keys, "viewer") == rights(keys, "lab") == Right.READ
    own = {client_keys(keys / name).own.public for name in ("trainer", "viewer", "lab")}
    assert len(own) == 3


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        ([], "trainer is there already: give another name"),
        (["new", "trainer"], "trainer is there already: give another name"),
        (["new", "new"], "a name stands there twice"),
        (["producer"], "'producer' cannot be a client's name: give a word"),
        (["../new"], "cannot be a client's name"),
        (["a/b"], "cannot be a client's name"),
        (["a b"], "cannot be a client's name"),
        (["#a"], "cannot be a client's name"),
        (["new", "--rights", "write"], "--rights write: give one of read, commit, read,commit"),
    ],
)
def test_what_is_there_is_never_written_over_and_a_mistake_makes_nothing(
    tmp_path: Path, arguments: list[str], mend: str
) -> None:
    keys = tmp_path / "keys"
    main(["keygen", str(keys)])
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=mend):
        main(["keygen", str(keys), *arguments])
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


def test_a_place_where_nothing_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"no keys can be made in .*Not a directory"):
        main(["keygen", str(tmp_path / "file" / "keys")])
