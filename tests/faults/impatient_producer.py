"""`python -m producer`, for which a group that is silent for 2 s is forgotten."""

from functools import partial

from producer import __main__ as program
from producer.service import ServiceSettings
from protocol.command_line import run

if __name__ == "__main__":
    vars(program)["ServiceSettings"] = partial(ServiceSettings, group_time_to_live_s=2.0)
    raise SystemExit(run(program.main))
