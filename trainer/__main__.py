"""`python -m trainer train | sweep | evaluate | ledger | predict | export`.

Light on purpose: torch is imported once something can be seen.
"""

from collections.abc import Sequence

from protocol.command_line import leave_on_signals, run


def main(arguments: Sequence[str]) -> int:
    """Choose the command, then import what it needs."""
    leave_on_signals()  # nothing has been trained yet, so there is nothing to save
    if {"train", "sweep"} & set(arguments[:1]) and not {"--help", "-h", "--print_config"} & set(arguments):
        print("importing torch", flush=True)
    from trainer.commands import main as command

    return command(arguments)


if __name__ == "__main__":
    raise SystemExit(run(main))
