import pytest
import torch
from torch.nn import functional

from trainer.mistakes import KEPT, Mistakes
from trainer.task import Outcome


def outcome(scores: torch.Tensor, targets: torch.Tensor) -> Outcome:
    return Outcome(torch.zeros(()), len(targets), {}, scores, targets)


def numbered(count: int, first: int = 0) -> torch.Tensor:
    """Pictures whose first pixel is their number."""
    return torch.arange(first, first + count).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_the_pictures_with_the_largest_losses_of_all_batches_are_kept_in_order(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, targets = torch.randn(200, 4, generator=generator), torch.randint(-1, 4, (200,), generator=generator)
    mistakes = Mistakes()
    for rows in torch.split(torch.arange(200), 33):
        mistakes.observe({"id": rows, "image": numbered(200)[rows]}, outcome(scores[rows], targets[rows]))
    losses = functional.cross_entropy(scores, targets, reduction="none", ignore_index=-1)
    wrong = [row for row in range(200) if targets[row] not in (-1, scores[row].argmax())]
    expected = sorted(wrong, key=lambda row: -float(losses[row]))[:KEPT]
    assert [each.picture[0, 0, 0] for each in mistakes.worst] == expected
    assert [each.loss for each in mistakes.worst] == pytest.approx(losses[expected].tolist())
    assert [each.truth for each in mistakes.worst] == targets[expected].tolist()
    assert [each.told for each in mistakes.worst] == scores[expected].argmax(1).tolist()


def test_what_was_told_right_is_no_mistake_however_unsure_the_model_was() -> None:
    mistakes = Mistakes()
    scores = torch.tensor([[0.1, 0.0], [0.0, 0.1], [0.0, 0.1]])
    mistakes.observe({"image": numbered(3)}, outcome(scores, torch.tensor([0, 1, 0])))
    assert [(each.truth, each.told) for each in mistakes.worst] == [(0, 1)]


def test_a_picture_is_a_copy_that_keeps_no_batch_alive() -> None:
    pictures, mistakes = numbered(2).clone(), Mistakes()
    mistakes.observe({"image": pictures}, outcome(torch.zeros(2, 3), torch.tensor([2, 2])))
    pictures.fill_(9)
    assert sorted(int(each.picture.max()) for each in mistakes.worst) == [0, 1]


def test_without_pictures_or_scores_there_are_none() -> None:
    mistakes, targets = Mistakes(), torch.tensor([1, 1])
    for columns in ({"image": torch.zeros(2, 1, 4, 4)}, {"x": torch.zeros(2, 16, dtype=torch.uint8)}, {}):
        mistakes.observe(columns, outcome(torch.tensor([[1.0, 0.0]] * 2), targets))
    mistakes.observe({"image": numbered(2)}, Outcome(torch.zeros(()), 2))
    assert mistakes.worst == []
