"""Two networks that learn against each other, each with an optimizer of its own: a task that takes its steps itself.

python -m producer --passes 6 --rate 0
python -m trainer train --config examples/gan.yaml
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from protocol.errors import UsageError
from trainer.task import Outcome, OwnStep, Prepared


class Gan(nn.Module):
    """A generator of pictures [1, 28, 28] out of noise, and a discriminator, whose score is above 0 for real ones."""

    def __init__(self, noise: int = 64, width: int = 256) -> None:
        super().__init__()
        self.noise = noise
        self.generator = nn.Sequential(
            nn.Linear(noise, width), nn.LeakyReLU(0.2), nn.Linear(width, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))
        )
        self.discriminator = nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.LeakyReLU(0.2), nn.Linear(width, 1), nn.Flatten(0)
        )
        for parameter in self.discriminator.parameters():
            parameter.discriminates = True  # type: ignore[attr-defined]  # an optimizer sees parameters without names

    def generate(self, like: torch.Tensor) -> torch.Tensor:
        """As many pictures as there are in `like`."""
        pictures: torch.Tensor = self.generator(torch.randn(len(like), self.noise, device=like.device))
        return pictures


class Two(Optimizer):
    """An Adam for each network."""

    def __init__(
        self, params: Iterable[nn.Parameter], generator_lr: float = 2e-4, discriminator_lr: float = 2e-4
    ) -> None:
        given = list(params)
        super().__init__(given, {})
        generator = [parameter for parameter in given if not hasattr(parameter, "discriminates")]
        discriminator = [parameter for parameter in given if hasattr(parameter, "discriminates")]
        self.generator = Adam(generator, lr=generator_lr, betas=(0.5, 0.999))
        self.discriminator = Adam(discriminator, lr=discriminator_lr, betas=(0.5, 0.999))
        self._show_groups()

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.generator.load_state_dict(state_dict["generator"])
        self.discriminator.load_state_dict(state_dict["discriminator"])
        self._show_groups()

    def _show_groups(self) -> None:
        """A schedule finds the learning rates of both here."""
        self.param_groups = [*self.generator.param_groups, *self.discriminator.param_groups]


class Adversarial(OwnStep):
    """The discriminator learns to tell pictures from generated ones, then the generator to be taken for real."""

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {"real": columns["image"].to(device, non_blocking=True).float().div_(127.5).sub_(1)}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        """The discriminator's loss; `correct` is the share of what it tells right, real and generated."""
        assert isinstance(model, Gan)
        real = prepared["real"]
        return self._told(model, real, model.generate(real))

    def step(self, model: nn.Module, optimizer: Optimizer, prepared: Prepared) -> Outcome:
        if not isinstance(model, Gan) or not isinstance(optimizer, Two):
            raise UsageError("this task needs --model examples.gan.Gan and --optimizer examples.gan.Two")
        real = prepared["real"]
        generated = model.generate(real)
        told = self._told(model, real, generated.detach())
        optimizer.discriminator.zero_grad()
        told.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.discriminator.step()
        missed = softplus(-model.discriminator(generated)).mean()
        optimizer.generator.zero_grad()
        missed.backward()  # type: ignore[no-untyped-call]
        optimizer.generator.step()
        sums = {**told.sums, "generator_loss": missed.detach() * told.count}
        return Outcome(told.loss.detach(), told.count, sums)

    @staticmethod
    def _told(model: Gan, real: torch.Tensor, generated: torch.Tensor) -> Outcome:
        scores, of_generated = model.discriminator(real), model.discriminator(generated)
        loss = (softplus(-scores) + softplus(of_generated)).mean()
        right = ((scores.detach() > 0).sum() + (of_generated.detach() <= 0).sum()) / 2
        return Outcome(loss, len(real), {"correct": right})
