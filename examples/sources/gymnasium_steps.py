"""An environment as a stream of experience: a record a step, under a random policy. Needs `pip install gymnasium`.

    python -m producer --source examples.sources.gymnasium_steps.steps --source.environment CartPole-v1
    python -m protocol peek tcp://127.0.0.1:5555

It replays: environment and policy are seeded, so a step is found again by taking all of those before it.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np


def steps(
    environment: str = "CartPole-v1", seed: int = 0, count: int = 0, *, resume_at: int
) -> Iterator[dict[str, Any]]:
    """Steps from number `resume_at` on.

    Args:
        environment: name of a registered environment
        seed: of its first episode and of the actions
        count: steps in all; 0: for ever
    """
    world = gymnasium.make(environment)
    world.action_space.seed(seed)
    observation, _ = world.reset(seed=seed)
    number = 0
    while not count or number < count:
        action = world.action_space.sample()
        following, reward, terminated, truncated, _ = world.step(action)
        if number >= resume_at:
            yield {
                "observation": observation,
                "action": action,
                "reward": np.float32(reward),
                "next_observation": following,
                "done": terminated,  # one that is only cut off has a future that is worth something
            }
        observation = world.reset()[0] if terminated or truncated else following
        number += 1
