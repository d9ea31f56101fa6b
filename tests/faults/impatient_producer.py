"""`python -m producer`, for which a group that never saved is forgotten when it is silent for 2 s."""

from functools import partial

from producer import __main__ as program
from producer.service import ServiceSettings
from protocol.command_line import run

GROUP_LIVES_S = 2.0

if __name__ == "__main__":
    vars(program)["ServiceSettings"] = partial(ServiceSettings, group_time_to_live_s=GROUP_LIVES_S)
    raise SystemExit(run(program.main))
