import numpy as np
import pytest
import torch
from torch import nn

from protocol.contact_sheet import contact_sheet
from protocol.schema import Field, Schema
from trainer.confusion import Confusion
from trainer.details import SHEET_WIDTH, VALIDATIONS_APART, Details
from trainer.graph import NoGraph
from trainer.mistakes import Mistakes
from trainer.report import Fact, Graph, Histograms, Notice, Pictures
from trainer.task import Outcome

SCHEMA = Schema(
    (Field("image", "uint8", (1, 8, 8)), Field("label", "int64")), label="label", class_names=("Bag", "Coat")
)


class Told(list[Fact]):
    """What was told, by a clock on which each fact takes a second."""

    now_s = 100.0

    def tell(self, fact: Fact) -> None:
        self.now_s += 1
        self.append(fact)

    def clock_s(self) -> float:
        return self.now_s

    def names(self) -> list[str]:
        return [fact.name if isinstance(fact, Pictures) else type(fact).__name__ for fact in self]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def details(told: Told) -> Details:
    return Details(SCHEMA, told.tell, told.clock_s)


def validated(classes: int = 2) -> tuple[nn.Module, Confusion, Mistakes]:
    """A model, and a validation in which a bag was told to be a coat."""
    confusion, mistakes = Confusion(), Mistakes()
    scores = torch.eye(classes)[[1, 1]]
    outcome = Outcome(torch.zeros(()), 2, {}, scores, torch.tensor([0, 1]))
    columns = {"image": torch.full((2, 1, 8, 8), 7, dtype=torch.uint8)}
    confusion.observe(columns, outcome)
    mistakes.observe(columns, outcome)
    return nn.Linear(2, 2), confusion, mistakes


def test_a_validation_is_shown_with_its_mistakes_by_the_names_of_the_classes(told: Told, details: Details) -> None:
    details.of_validation(640, *validated())
    assert told.names() == ["Histograms", "validation/confusion", "validation/most_wrong"]
    assert {fact.samples for fact in told if isinstance(fact, (Histograms, Pictures))} == {640}
    last = told[-1]
    assert isinstance(last, Pictures)
    expected = contact_sheet(np.full((1, 1, 8, 8), 7, np.uint8), ["told Coat\nis Bag"], SHEET_WIDTH)
    assert (last.sheet == expected).all()


def test_details_cost_half_a_hundredth_of_the_time_at_most(told: Told, details: Details) -> None:
    details.of_validation(0, *validated())
    spent_s, began_s = 3, told.now_s
    while told.now_s < began_s + VALIDATIONS_APART * spent_s:
        details.of_validation(1, *validated())
        told.now_s += 10
    assert len(told) == spent_s
    details.of_validation(2, *validated())
    assert len(told) == 2 * spent_s


def test_the_last_validation_is_shown_in_any_case_and_once(told: Told, details: Details) -> None:
    details.of_validation(1, *validated())
    details.of_last_validation()
    assert len(told) == 3
    details.of_validation(2, *validated())
    details.of_last_validation()
    assert [fact.samples for fact in told if isinstance(fact, Histograms)] == [1, 2]
    details.of_validation(3, *validated())
    told.now_s += 10_000
    details.of_validation(4, *validated())
    details.of_last_validation()
    assert [fact.samples for fact in told if isinstance(fact, Histograms)] == [1, 2, 4]


def test_of_many_classes_that_they_are_not_shown_is_said_once(told: Told, details: Details) -> None:
    details.of_validation(1, *validated(31))
    told.now_s += 1000
    details.of_validation(2, *validated(31))
    assert told.names() == ["Histograms", "Notice", "validation/most_wrong", "Histograms", "validation/most_wrong"]
    assert isinstance(told[1], Notice)
    assert told[1].text.startswith("31 classes are not shown one by one, which is done for up to 30: ")


def test_a_task_that_tells_no_classes_has_its_histograms(told: Told, details: Details) -> None:
    details.of_validation(1, nn.Linear(2, 2), Confusion(), Mistakes())
    assert told.names() == ["Histograms"]


def test_a_model_without_a_graph_is_a_notice(told: Told, details: Details) -> None:
    def none() -> None:
        raise NoGraph("too dynamic")

    details.of_model(64, lambda: "graph")
    details.of_model(64, none)
    notice = Notice(samples=64, text="TensorBoard shows no graph of the model: too dynamic")
    assert list(told) == [Graph(samples=64, graph="graph"), notice]
