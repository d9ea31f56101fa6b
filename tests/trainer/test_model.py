import torch

from trainer.model import GarmentClassifier


def test_it_is_the_tutorials_network() -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in GarmentClassifier().named_parameters()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5),
        "conv2.bias": (16,),
        "fc1.weight": (120, 256),
        "fc1.bias": (120,),
        "fc2.weight": (84, 120),
        "fc2.bias": (84,),
        "fc3.weight": (10, 84),
        "fc3.bias": (10,),
    }
    assert sum(parameter.numel() for parameter in GarmentClassifier().parameters()) == 44_426


def test_it_gives_a_score_for_each_class() -> None:
    assert GarmentClassifier()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert GarmentClassifier(classes=4)(torch.zeros(3, 1, 28, 28)).shape == (3, 4)


def test_a_record_is_judged_by_itself() -> None:
    pictures = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = GarmentClassifier()
    together = model(pictures)
    for picture, scores in zip(pictures, together, strict=True):
        torch.testing.assert_close(model(picture[None])[0], scores)


def test_every_parameter_learns() -> None:
    model = GarmentClassifier()
    model(torch.rand(8, 1, 28, 28)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
