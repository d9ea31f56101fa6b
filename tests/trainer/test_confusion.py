import numpy as np
import torch

from trainer.confusion import MOST_CLASSES, Confusion
from trainer.task import Outcome


def outcome(scores: torch.Tensor, targets: torch.Tensor) -> Outcome:
    return Outcome(torch.zeros(()), len(targets), {}, scores, targets)


def observed(classes: int, seed: int) -> tuple[Confusion, list[tuple[int, int]]]:
    """Three batches, and the pairs of class and told class in them; about one target in `classes` is no class."""
    generator = torch.Generator().manual_seed(seed)
    confusion, pairs = Confusion(), []
    for count in (40, 7, 1):
        scores = torch.randn(count, classes, generator=generator)
        targets = torch.randint(-1, classes - 1, (count,), generator=generator)
        confusion.observe({}, outcome(scores, targets))
        pairs += list(zip(targets.tolist(), scores.argmax(1).tolist(), strict=True))
    return confusion, [pair for pair in pairs if pair[0] >= 0]


def test_each_record_is_counted_under_its_class_and_the_class_it_was_told_to_be(seed: int) -> None:
    confusion, pairs = observed(5, seed)
    expected = np.zeros((5, 5), int)
    np.add.at(expected, tuple(np.array(pairs).T), 1)
    assert confusion.matrix() == expected.tolist()


def test_the_accuracy_of_a_class_is_the_share_of_its_records_that_was_told_right(seed: int) -> None:
    confusion, pairs = observed(5, seed)
    shares = {
        name: np.mean([told == number for truth, told in pairs if truth == number])
        for number, name in enumerate(["Top", "Bag", "2", "3"])  # of the class 4 there is no record
        if any(truth == number for truth, _ in pairs)
    }
    assert confusion.per_class(["Top", "Bag"]) == shares


def test_of_many_classes_the_accuracies_are_counted_and_no_matrix_is_kept(seed: int) -> None:
    confusion, pairs = observed(MOST_CLASSES + 1, seed)
    assert not confusion.shown
    assert confusion.matrix() == []
    assert sum(confusion.per_class([]).values()) > 0 or all(truth != told for truth, told in pairs)
    assert len(confusion.per_class([])) == len({truth for truth, _ in pairs})


def test_a_task_without_scores_has_nothing_to_confuse() -> None:
    confusion = Confusion()
    confusion.observe({}, Outcome(torch.zeros(()), 4))
    assert (confusion.classes, confusion.shown, confusion.matrix(), confusion.per_class([])) == (0, False, [], {})
