"""`python -m trainer train | evaluate | ledger`. Light on purpose: torch is imported once something can be seen."""

import os
import signal
from collections.abc import Sequence
from types import FrameType

from protocol.command_line import run


def _leave(number: int, frame: FrameType | None) -> None:
    """Nothing has been trained yet, so there is nothing to save."""
    del number, frame
    os._exit(0)


def main(arguments: Sequence[str]) -> int:
    """Choose the command, then import what it needs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if list(arguments[:1]) == ["train"] and not {"--help", "-h", "--print_config"} & set(arguments):
        print("importing torch", flush=True)
    from trainer.commands import main as command

    return command(arguments)


if __name__ == "__main__":
    raise SystemExit(run(main))
