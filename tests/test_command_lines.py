"""What all command lines have in common: help that is worth reading, settings that go round, exit statuses."""

import contextlib
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from protocol.class_path import class_path_in, import_class
from protocol.command_line import ArgumentParser, settings_of
from protocol.errors import DataFault, UsageError
from tests.programs import ROOT, Programs
from trainer.commands import main as train
from trainer.device import DeviceSettings
from trainer.settings import TrainSettings

COMMANDS = {
    "producer": ("producer",),
    "trainer": ("trainer",),
    "trainer train": ("trainer", "train"),
    "trainer sweep": ("trainer", "sweep"),
    "trainer evaluate": ("trainer", "evaluate"),
    "trainer ledger": ("trainer", "ledger"),
    "trainer predict": ("trainer", "predict"),
    "trainer export": ("trainer", "export"),
    "protocol": ("protocol",),
    "protocol info": ("protocol", "info"),
    "protocol lag": ("protocol", "lag"),
    "protocol groups": ("protocol", "groups"),
    "protocol peek": ("protocol", "peek"),
    "protocol record": ("protocol", "record"),
    "protocol keygen": ("protocol", "keygen"),
}
OPTIONS = {
    "producer": (
        "bind keys insecure partitions rate passes seed source log.path log.bytes log.full log.linger log.keep "
        "on_bad_record reject_nan quarantine quarantine_bytes until config print_config"
    ),
    "trainer train": (
        "stream keys batch_size workers run_dir resume model task optimizer lr_scheduler validation max_samples "
        "validate_every checkpoint_every report_every start device seed connect_timeout idle_timeout early_stop "
        "on_loss on_nan on_bad_record freeze no_decay schedule_every clip_norm ema metrics prequential_window "
        "fading_factor init_from init_names config print_config"
    ),
    "trainer sweep": "sweep_dir trials parallel sampler pruner startup_trials seed space train config print_config",
    "trainer evaluate": "run_dir batch_size device metrics json",
    "trainer ledger": "run_dir stream keys json",
    "trainer predict": (
        "input run_dir out format max_records device batch_size resize keys start connect_timeout idle_timeout"
    ),
    "trainer export": "format run_dir out",
    "protocol info": "json timeout keys",
    "protocol lag": "once timeout keys",
    "protocol groups": "drop timeout keys",
    "protocol peek": "records image out start split timeout keys",
    "protocol record": "records timeout keys",
    "protocol keygen": "rights",
}


# --- help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_is_for_with_examples_and_each_option_with_a_text(
    started: Programs, tmp_path: Path, name: str
) -> None:
    module, *command = COMMANDS[name]
    program = started.start(module, *command, "--help", cwd=tmp_path)
    assert (program.status(), program.err) == (0, "")
    description = program.out.partition("options:")[0]
    assert f"python -m {name}" in description.splitlines()[0], "the usage"
    assert re.search(rf"^  python -m {name}", description, re.MULTILINE), "an example"
    assert len(description.split()) > 20
    options = re.findall(r"^  (?:-h, )?--([\w.]+)[^\n]*?(?:  +|\n {10,})(\S[^\n]*)", program.out, re.MULTILINE)
    texts = dict(options)
    assert set(OPTIONS.get(name, "").split()) | {"help"} <= texts.keys()
    assert all(len(text) > 3 for text in texts.values()), texts
    shown = re.findall(r"^  (?:-h, )?--([\w.]+)", program.out, re.MULTILINE)
    assert len(shown) == len(texts), "each has a text"
    for noise in ("known subclasses", "Namespace(", "class '"):
        assert noise not in program.out


def test_a_class_shows_its_own_arguments(started: Programs, tmp_path: Path) -> None:
    source = started.start("producer", "--source.help", cwd=tmp_path)
    model = started.start("trainer", "train", "--model.help", "trainer.model.GarmentClassifier", cwd=tmp_path)
    assert (source.status(), model.status()) == (0, 0)
    assert "--source.root ROOT" in source.out
    assert "--model.classes CLASSES" in model.out


# --- settings files ----------------------------------------------------------------------------------------------


#: Of the trainer; changes.yaml is a schedule of the producer's (tests/producer/test_drift.py).
SETTINGS_FILES = sorted(set((ROOT / "examples").glob("*.yaml")) - {ROOT / "examples" / "changes.yaml"})


@pytest.mark.parametrize("file", SETTINGS_FILES, ids=lambda file: file.name)
def test_the_settings_files_of_the_examples_are_accepted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "sweep" if file.name == "sweep.yaml" else "train"
    with pytest.raises(SystemExit) as left:
        train([command, "--config", str(file), "--print_config"])
    assert left.value.code == 0
    assert yaml.safe_load(file.read_text()).keys() <= yaml.safe_load(capsys.readouterr().out).keys()


@pytest.mark.parametrize("place", ["command line", "file"])
@pytest.mark.parametrize(
    ("path", "argument", "default"),
    [
        ("torch.optim.AdamW", "optimizer.weight_decay", 0.01),  # SGD, the default, has 0
        ("torch.optim.RMSprop", "optimizer.momentum", 0),  # and is given 0.9
        ("trainer.tasks.MultiLabel", "task.target", "labels"),  # a classification has label
        ("Distribution", "task.target", "probabilities"),
    ],
)
def test_a_class_that_is_named_has_its_own_defaults(
    path: str, argument: str, default: object, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option, _, name = argument.partition(".")
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({option: path}))
    told = [f"--{option}", path] if place == "command line" else ["--config", str(file)]
    with pytest.raises(SystemExit):
        train(["train", *told, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)[option]["init_args"][name] == default


# --- settings ----------------------------------------------------------------------------------------------------

TRAIN = ("--optimizer", "AdamW", "--optimizer.lr", "0.25", "--lr_scheduler", "OneCycleLR", "--lr_scheduler.max_lr", "1")


@pytest.mark.parametrize(
    ("command", "arguments", "kept"),
    [
        (("trainer", "train"), (*TRAIN, "--batch_size", "7"), {"batch_size": 7, "seed": 0}),
        (("trainer", "train"), ("--model", "torch.nn.Linear", "--model.in_features=3", "--model.out_features=4"), {}),
        (("producer",), ("--rate", "5", "--source.root", "elsewhere"), {"rate": 5.0}),
    ],
)
def test_what_print_config_prints_is_taken_as_config(
    started: Programs, tmp_path: Path, command: tuple[str, ...], arguments: tuple[str, ...], kept: dict[str, object]
) -> None:
    module, *words = command
    printed = started.start(module, *words, *arguments, "--print_config", cwd=tmp_path)
    assert (printed.status(), printed.err) == (0, "")
    settings = yaml.safe_load(printed.out)
    assert settings.items() >= kept.items()
    (tmp_path / "mine.yaml").write_text(printed.out)
    again = started.start(module, *words, "--config", "mine.yaml", "--print_config", cwd=tmp_path)
    assert (again.status(), again.err) == (0, "")
    assert again.out == printed.out
    if arguments == (*TRAIN, "--batch_size", "7"):
        assert settings["optimizer"]["class_path"].startswith("torch.optim.")
        assert settings["optimizer"]["init_args"]["lr"] == 0.25


def test_an_option_after_the_settings_file_has_the_last_word(started: Programs, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("rate: 5\nseed: 3\n")
    program = started.start("producer", "--config", "mine.yaml", "--rate", "6", "--print_config", cwd=tmp_path)
    assert program.status() == 0
    settings = yaml.safe_load(program.out)
    assert (settings["rate"], settings["seed"]) == (6.0, 3)


def test_a_component_gets_its_own_settings_only() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(TrainSettings, None)
    parser.add_class_arguments(DeviceSettings, None)
    config = parser.parse_args(["--device", "cpu", "--batch_size", "5"])
    assert settings_of(DeviceSettings, config) == DeviceSettings(device="cpu")
    assert settings_of(TrainSettings, config) == TrainSettings(batch_size=5)


# --- mistakes ----------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30))
def test_whatever_is_typed_as_a_class_path_gives_a_class_or_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError, match="--source"):
        import_class(path, "--source")


@given(st.binary(max_size=40))
def test_whatever_lies_in_a_settings_file_is_read_or_a_usage_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(UsageError):
            found = class_path_in(["--config", file.name], "source")
            assert found is None or isinstance(found, str)


def test_arguments_of_a_class_may_have_alternatives() -> None:
    """A class that does not fit is no mistake where a number does."""

    class Holder:
        """Takes either."""

        def __init__(self, either: DeviceSettings | int = 3) -> None:
            self.either = either

    parser = ArgumentParser()
    parser.add_class_arguments(Holder, "holder")
    assert parser.parse_args(["--holder.either", "7"]).holder.either == 7
    with pytest.raises(UsageError, match=r"--holder\.either"):
        parser.parse_args(["--holder.either", "seven"])


def test_what_a_class_refuses_on_purpose_keeps_its_kind() -> None:
    class Refuses:
        """Never made."""

        def __init__(self, *, on_purpose: bool) -> None:
            raise DataFault("the data is bad") if on_purpose else OSError("gone\nwith the wind")

    parser = ArgumentParser()
    parser.add_class_arguments(Refuses, "it")
    with pytest.raises(DataFault, match="the data is bad"):
        parser.make(parser.parse_args(["--it.on_purpose", "true"]))
    with pytest.raises(UsageError, match=r"OSError: gone with the wind \(test_command_lines.py, line \d+\)"):
        parser.make(parser.parse_args(["--it.on_purpose", "false"]))
