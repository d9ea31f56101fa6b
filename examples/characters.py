"""A small language model by characters: it reads a text and tells each next character.

python -m producer --source examples.sources.text_tokens.Windows --source.path book.txt --validation 0.1 --rate 0
python -m trainer train --config examples/characters.yaml
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer.task import Outcome, Prepared, Task


class NextCharacter(Task):
    """`tokens` int64 [length + 1]: each but the last is to tell the one after it."""

    def prepare(self, columns: Mapping[str, torch.Tensor], device: torch.device) -> Prepared:
        tokens = columns["tokens"].to(device, non_blocking=True)
        return {"seen": tokens[:, :-1], "next": tokens[:, 1:]}

    def evaluate(self, model: nn.Module, prepared: Prepared) -> Outcome:
        scores, following = model(prepared["seen"]), prepared["next"]
        right = (scores.argmax(2) == following).float().mean(1).sum()
        return Outcome(cross_entropy(scores.flatten(0, 1), following.flatten()), len(following), {"correct": right})


class Characters(nn.Module):
    """Tokens [count, length] in, scores of the next ones [count, length, vocabulary] out."""

    def __init__(self, vocabulary: int = 128, width: int = 128) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(vocabulary, width), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.layer(self.embedding(tokens))[0])
        return scores
