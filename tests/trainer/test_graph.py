from collections.abc import Mapping

import pytest
import torch
from torch import nn

from trainer.graph import NoGraph, graph_of
from trainer.task import Outcome, Prepared, Task
from trainer.tasks import Classification

CPU = torch.device("cpu")
BATCH = {"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "label": torch.tensor([0, 1, 2, 0])}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.BatchNorm1d(64), nn.Linear(64, 8)
        self.drop, self.outer = nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.outer(self.drop(self.inner(self.norm(pictures.flatten(1)))))
        return scores


class Untraceable(Net):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            raise RuntimeError("not\nin here")
        return super().forward(pictures)


class Constant(Task):
    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        return {"x": columns["label"].float()}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        return Outcome(prepared["x"].mean(), len(prepared["x"]))


def test_the_graph_has_each_layer_of_the_model_by_its_name() -> None:
    definition, _ = graph_of(Net(), Classification(), BATCH, CPU)
    names = " ".join(node.name for node in definition.node)
    assert all(f"Net/{kind}[{name}]" in names for kind, name in (("Linear", "inner"), ("BatchNorm1d", "norm")))


def test_tracing_leaves_the_model_and_the_generators_as_they_were() -> None:
    model = Net().train()
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    graph_of(model, Classification(), BATCH, CPU)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("model", "task", "why"), [(Untraceable(), Classification(), "^not in here$"), (Net(), Constant(), "not call it")]
)
def test_that_a_model_has_no_graph_is_one_line_and_nothing_else_is_said(
    model: nn.Module, task: Task, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoGraph, match=why):
        graph_of(model.train(), task, BATCH, CPU)
    assert capfd.readouterr() == ("", "")
    assert model.training
