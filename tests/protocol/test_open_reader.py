import pytest

from protocol.errors import UsageError
from protocol.open_reader import check_url, open_reader


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:5555", "tcp://[::1]:5555", "tcp://some.host:1", "ipc:///tmp/socket"])
def test_a_url_that_a_reader_can_open_is_no_mistake(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("", "use tcp://HOST:PORT, ipc://PATH, file://DIR or kafka://HOST:PORT"),
        ("http://127.0.0.1:5555", "use tcp://HOST:PORT, ipc://PATH, file://DIR or kafka://HOST:PORT"),
        ("127.0.0.1:5555", "use tcp://HOST:PORT, ipc://PATH, file://DIR or kafka://HOST:PORT"),
        ("tcp://127.0.0.1", "for example tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:port", "for example tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:99999", "for example tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:0", "for example tcp://127.0.0.1:5555"),
        ("tcp://:5555", "for example tcp://127.0.0.1:5555"),
        ("ipc://", "needs a path"),
    ],
)
def test_any_other_is_the_users_mistake_and_says_what_to_write(url: str, mend: str) -> None:
    with pytest.raises(UsageError, match=mend):
        check_url(url)
    with pytest.raises(UsageError, match=mend):
        open_reader(url)


def test_a_url_that_only_zeromq_can_judge_is_said_in_one_line_too() -> None:
    with pytest.raises(UsageError, match="cannot connect to") as error:
        open_reader("ipc:///" + "x" * 300)
    assert "\n" not in str(error.value)
