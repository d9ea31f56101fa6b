import numpy as np
import pytest
import torch
from torch import nn

from trainer.model import GarmentClassifier
from trainer.weights import VALUES, histogram_values, norms


def trained(model: nn.Module, *shape: int) -> nn.Module:
    """The model with gradients."""
    model(torch.ones(shape)).square().sum().backward()
    return model


def test_the_norms_are_those_of_all_weights_and_gradients_as_one_vector() -> None:
    model = trained(GarmentClassifier(), 2, 1, 28, 28)
    weights = np.concatenate([each.detach().numpy().ravel() for each in model.parameters()])
    gradients = np.concatenate([each.grad.numpy().ravel() for each in model.parameters() if each.grad is not None])
    found = norms(model)
    assert found == {
        "gradient": pytest.approx(np.linalg.norm(gradients), rel=1e-5),
        "weight": pytest.approx(np.linalg.norm(weights), rel=1e-5),
    }


def test_what_is_frozen_is_not_counted() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    alone = norms(trained(model[1], 5, 4))
    model[1].zero_grad()
    assert norms(trained(model, 5, 3))["weight"] == alone["weight"]


def test_before_the_first_step_there_is_no_gradient() -> None:
    assert list(norms(GarmentClassifier())) == ["weight"]


def test_the_norm_before_clipping_takes_the_place_of_what_clipping_left() -> None:
    model = trained(nn.Linear(3, 4), 5, 3)
    before = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norms(model, before)["gradient"] == pytest.approx(before.item())
    assert norms(model)["gradient"] == pytest.approx(1e-3, rel=1e-2)


def test_sparse_gradients_have_the_norm_of_dense_ones() -> None:
    found = []
    for sparse in (False, True):
        words = nn.Embedding(50, 4, sparse=sparse, _weight=torch.ones(50, 4))
        (words(torch.tensor([3, 3, 7])) * torch.tensor([[1.0], [2.0], [4.0]])).sum().backward()
        found.append(norms(words))
        assert "gradients/weight" in histogram_values(words)
    assert found[0] == found[1]


def test_histograms_have_all_values_of_each_weight_and_gradient() -> None:
    model = trained(nn.Linear(3, 4), 5, 3)
    values = histogram_values(model)
    assert list(values) == ["weights/weight", "weights/bias", "gradients/weight", "gradients/bias"]
    assert (values["weights/weight"] == model.get_parameter("weight").detach().numpy().ravel()).all()
    gradient = model.get_parameter("bias").grad
    assert gradient is not None
    assert (values["gradients/bias"] == gradient.numpy()).all()


def test_of_a_large_tensor_some_values_are_enough() -> None:
    model = nn.Linear(1000, 3 * VALUES // 1000, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(0, 1, 3 * VALUES).reshape(model.weight.shape))
    values = histogram_values(model)["weights/weight"]
    assert values.size == VALUES
    assert np.quantile(values, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)


def test_what_is_no_number_is_in_no_histogram() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
        model.bias.fill_(torch.inf)
    assert {name: values.size for name, values in histogram_values(model).items()} == {"weights/weight": 3}
