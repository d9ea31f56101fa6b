"""`python -m trainer` as a program: what it says of mistakes and faults, and how it ends and goes on."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.programs import ROOT, Program, Programs, wait_until
from tests.trainer.streams import groups
from trainer.checkpoint_files import CHECKPOINTS, listed, load, verify

PARTS = '''
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

class Pictures:
    """Three classes, told apart by their grey."""

    def __init__(self, count: int = 600, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.classes = ["dark", "grey", "light"]

    def __len__(self):
        return self.count

    def __getitem__(self, index: int):
        return np.full((1, 4, 4), index % 3 * 100 + self.seed, np.uint8), index % 3

class Camera:
    """A live source. Record `nan` is not a number, record `wrong` has a class that no model knows.

    It gives record `pause` once there is a file `go`, and what follows `stop` only after a file `on`.
    """

    def __init__(self, count: int = 1000, nan: int = -1, wrong: int = -1, pause: int = -1, stop: int = -1) -> None:
        self.count, self.nan, self.wrong, self.pause, self.stop = count, nan, wrong, pause, stop

    def __iter__(self):
        for number in range(self.count):
            for at, file in ((self.pause, "go"), (self.stop, "on")):
                while number == at and not Path(file).exists():
                    time.sleep(0.01)
            value = np.full(16, number % 3, np.float32)
            if number == self.nan:
                value[5] = np.nan
            yield {"image": value, "label": 99 if number == self.wrong else number % 3}

class Endless:
    """A live source without an end."""

    def __iter__(self):
        while True:
            yield {"image": np.zeros(16, np.float32), "label": 0}

class Chat:
    """Text."""

    def __iter__(self):
        yield {"text": "hello"}

class Small(nn.Module):
    """A model."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, width), nn.Linear(width, 3)

    def forward(self, pictures):
        return self.outer(self.inner(pictures.flatten(1)).relu())

class Unmade(nn.Module):
    """Cannot be made."""

    def __init__(self) -> None:
        raise KeyError("no width")
'''
SMALL = ("--model", "parts.Small")
PLAIN = ("--display", "plain", "--tensorboard", "false", "--connect_timeout", "60")
NOBODY = ("--stream", "ipc://nobody", "--connect_timeout", "0.1")

Served = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    return tmp_path


@pytest.fixture
def served(started: Programs, folder: Path) -> Iterator[Served]:
    """Starts a producer; the stream's URL."""
    producers: list[Program] = []

    def serve(*arguments: str) -> str:
        url = f"ipc://{folder}/stream-{len(producers)}"
        producers.append(started.start("producer", "--bind", url, "--rate", "0", *arguments, cwd=folder))
        return url

    yield serve
    for producer in producers:
        producer.signal(signal.SIGTERM)
        producer.status()


@pytest.fixture(scope="module")
def run(started: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder in which a run of 320 samples lies in runs/default, and its stream."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "parts.py").write_text(PARTS)
    url = f"ipc://{folder}/stream"
    arguments = ("--source", "parts.Pictures", "--rate", "0", "--validation", "60", "--bind", url)
    producer = started.start("producer", *arguments, cwd=folder)
    trainer = started.start("trainer", "train", "--stream", url, *SMALL, *PLAIN, "--max_samples", "320", cwd=folder)
    assert trainer.status() == 0, trainer.err
    yield folder, url
    producer.signal(signal.SIGTERM)
    producer.status()


def step(run_dir: Path, samples: int) -> Path:
    return run_dir / CHECKPOINTS / f"step-{samples:012d}"


# --- mistakes that are seen before anybody is waited for ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], r"train,sweep,evaluate.*--help"),
        (["fly"], r"'fly'.*'train', 'sweep', 'evaluate'"),
        (["train", "--speed", "3"], r"--speed 3 .*--help"),
        (["train", "--batch_size", "many"], r"--batch_size: many is no int .*--help"),
        (["train", "--display", "loud"], r"--display: loud is none of 'auto', .*--help"),
        (["train", "--batch_size", "0"], r"--batch_size .* at least 1"),
        (["train", "--workers", "-1"], r"--workers.* 0 or more"),
        (["train", "--report_every", "0"], r"--report_every is at least 1"),
        (["train", "--validate_every", "-1"], r"-1 samples: give 1 or more, or 0"),
        (["train", "--seed", "-1"], r"--seed is from 0 to"),
        (["train", "--keep", "0"], r"keep 0 checkpoints: at least 1"),
        (["train", "--early_stop", "-1"], r"early_stop -1: give"),
        (["train", "--metrics", ":9100"], r"for Prometheus give --prometheus \[HOST\]:PORT"),
        (["train", "--prometheus", "here"], r"'here' is no place for metrics"),
        (["train", "--start", "middle"], r"'middle' is no start: give earliest, latest, a time"),
        (["train", "--device", "tpu"], r"'tpu' names no device: give auto, cpu"),
        (["train", "--stream", "somewhere"], r"'somewhere' is no stream: use tcp://HOST:PORT"),
        (["train", "--stream", "tcp://there"], r"'tcp://there' names no host and port: use"),
        (["train", "--config", "nowhere.yaml"], r"--config 'nowhere.yaml' cannot be read"),
        (["train", "--model", "no.such.Class"], r"--model 'no.such.Class': there is no module 'no'; install it"),
        (["train", "--task", "parts.Nothing"], r"--task 'parts.Nothing': module 'parts' has no 'Nothing'"),
        (["train", "--optimizer", "Nothing"], r"--optimizer 'Nothing' is no class path: give package.module.Class"),
        (["train", "--lr_scheduler", "no.such.Class"], r"--lr_scheduler 'no.such.Class': there is no module 'no'"),
        (["train", "--validation", "no.such.Class"], r"--validation 'no.such.Class': there is no module 'no'"),
        (["train", "--model", "parts.Pictures"], r"--model 'parts.Pictures' is no torch\S*Module: give a subclass"),
        (["train", "--optimizer", "parts.Small"], r"--optimizer 'parts.Small' is no torch\S*Optimizer: give a sub"),
        (["train", *SMALL, "--model.width", "wide"], r"--model.width: wide is no int .*--help"),
        (["train", *SMALL, "--model.depth", "3"], r"there is no option --model.depth .*--help"),
        (["train", "--model", "torch.nn.Linear"], r"--model: give in_features, out_features as well .*--help"),
        (["train", "--model", "parts.Unmade"], r"cannot be made .*KeyError: 'no width' \(parts.py, line \d+\)"),
        (["train", "--optimizer.lr", "high"], r"--optimizer.lr: high is none of float.*--help"),
        (["train", "--optimizer.lr", "-1"], r"optimizer .* cannot be made: Invalid learning rate"),
        (["train", "--lr_scheduler", "OneCycleLR"], r"--lr_scheduler: give max_lr as well .*--help"),
        (["train", "--lr_scheduler", "ReduceLROnPlateau"], r"ReduceLROnPlateau .*: give --schedule_every valid"),
        (["train", "--schedule_every", "often"], r"--schedule_every: often is none of .*--help"),
        (["train", "--init_from", "nowhere"], r"nowhere holds no checkpoint: train first, or give another"),
        (["train", "--amp", "fp8"], r"--amp: fp8 is none of 'off', 'bf16', 'fp16'.*--help"),
        (["train", "--amp", "fp16", "--optimizer", "LBFGS"], r"--amp fp16 does not go with LBFGS.*: give bf16 or off"),
        (["train", "--on_nan", "skip", "--optimizer", "LBFGS"], r"--on_nan skip does not go with LBFGS.*: give stop"),
        (["train", "--task", "Distillation"], r"a distillation needs a teacher: give the directory of a run"),
        (["train", "--task", "Regression", "--task.loss", "cubic"], r"--task.loss: cubic is none of 'mse', 'l1', 'hub"),
        (["train", "--augment+", "no.such.Class"], r"--augment 'no.such.Class': there is no module 'no'; install it"),
        (["train", "--augment+", "parts.Pictures"], r"--augment 'parts.Pictures' is no torch\S*Module: give a subcl"),
        (["train", "--augment+", "RandomFlip", "--augment.p", "2"], r"p 2.0 of a RandomFlip: give a probability"),
        (["train", "--augment+", "RandomFlip", "--augment.q", "2"], r"there is no option --augment.q .*--help"),
        (["train", "--augment_each", "pixel"], r"--augment_each: pixel is none of 'record', 'batch'.*--help"),
        (["train", "--dump_batches", "-1"], r"--dump_batches is 0 or more"),
        (["train", "--accumulate", "0"], r"--accumulate 0: give the number of micro-batches"),
        (["train", "--device", "cpu", "--pin_memory", "true"], r"--pin_memory true .* on cpu: give auto or false"),
        (["train", "--resume", "nowhere"], r"there is no checkpoint nowhere: name a folder such as"),
        (["train", "--resume", "."], r"\. is no checkpoint .*: name a folder such as"),
        (["train", "--run_dir", "parts.py"], r"parts.py cannot be used .*: give another --run_dir"),
        (["train", "--run_dir", "/proc/nobody"], r"/proc/nobody cannot be used .*: give another --run_dir"),
        (["train"], r"no producer answered at ipc://nobody within 0.1 s: start one .*--bind ipc://nobody.*--connect_t"),
        (["evaluate"], r"runs/default holds no checkpoint: train first, or give another --run_dir"),
        (["evaluate", "--batch_size", "0"], r"--batch_size is at least 1"),
        (["predict"], r"give input as well .*--help"),
        (
            ["predict", "--input", "parts.py", "--out", "told.txt"],
            r"--out told.txt ends in neither of .csv, .jsonl: give",
        ),
        (["predict", "--input", "parts.py", "--out", "told.csv"], r"runs/default holds no checkpoint: train first"),
        (["export"], r"give format as well .*--help"),
        (["export", "--format", "pickle"], r"--format: pickle is none of 'safetensors', 'pt2', 'onnx'.*--help"),
        (["export", "--format", "pt2"], r"there is no run in runs/default: train first, or give another --run_dir"),
    ],
)
def test_a_mistake_is_one_line_with_the_mend(started: Programs, folder: Path, arguments: list[str], said: str) -> None:
    nobody = NOBODY if arguments[:1] == ["train"] and "--stream" not in arguments else ()
    complaint = started.start("trainer", *arguments, *nobody, cwd=folder).complaint()
    assert complaint.startswith("trainer: ")
    assert re.search(said, complaint), complaint
    assert (folder / "runs").exists() == ("no producer answered" in complaint), "what was refused leaves nothing behind"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_size: [1, 2\n", r"is no YAML \(line 2: .*--print_config"),
        ("speed: 3\n", r"there is no option --speed .*--help"),
        ("batch_size: many\n", r"--batch_size: many is no int .*--help"),
        ("model: Nothing\n", r"--model 'Nothing' is no class path"),
        ("optimizer: {class_path: torch.optim.SGD, init_args: {lr: high}}\n", r"--optimizer.lr: high is none of float"),
    ],
)
def test_a_mistake_in_a_settings_file_is_one_line_too(started: Programs, folder: Path, text: str, said: str) -> None:
    (folder / "settings.yaml").write_text(text)
    complaint = started.start("trainer", "train", "--config", "settings.yaml", cwd=folder).complaint()
    assert re.search(said, complaint), complaint


def test_the_classes_of_a_settings_file_are_said_before_any_is_imported(started: Programs, folder: Path) -> None:
    (folder / "loud.py").write_text("print('imported')\n")
    (folder / "settings.yaml").write_text(
        "model: loud.Model\ntask: {class_path: parts.Own, init_args: {inner: {class_path: strange.Inner}}}\n"
        "optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}\nbatch_size: 3\n"
        "augment: [faded.Colours, {class_path: faded.Light}]\n"
    )
    program = started.start("trainer", "train", "--config", "settings.yaml", *NOBODY, cwd=folder)
    assert program.status() == 2
    said, complaint = program.err.splitlines()
    named = "'loud.Model', 'faded.Colours', 'parts.Own', 'strange.Inner', 'faded.Light'"
    assert said == f"trainer: settings.yaml names classes, whose code will run: {named}"
    assert complaint == "trainer: --model 'loud.Model': module 'loud' has no 'Model'"
    assert "imported" in program.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_directory_that_must_not_be_written_is_one_line(started: Programs, folder: Path) -> None:
    (folder / "sealed").mkdir(mode=0o500)
    for run_dir in ("sealed", "sealed/run"):
        complaint = started.start("trainer", "train", "--run_dir", run_dir, *NOBODY, cwd=folder).complaint()
        assert run_dir in complaint
        assert "give another --run_dir" in complaint


# --- mistakes that only the stream shows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        (
            "Chat",
            ["--decode+", "trainer.decoders.Cut", "--decode.field", "words", "--decode.length", "4"],
            r"--decode Cut needs a field 'words' of any length, and a record is text uint8 \[None\]: name another",
        ),
        ("Pictures", [*SMALL, "--validation", "parts.Camera"], r"--validation: Camera has no __len__ and __getitem__"),
        (
            "Pictures",
            [*SMALL, "--augment+", "torchvision.transforms.v2.RandomCrop", "--augment.size", "9"],
            r"--augment: RandomCrop does not go with the column 'image', uint8 \[64, 1, 4, 4\]: ValueError: Required",
        ),
        ("Pictures", [*SMALL, "--task.input", "sound"], r"no column 'sound' in the stream, only id, image, label"),
        (
            "Pictures",
            [],
            r"GarmentClassifier fails on its first batch of id int64, image uint8\[1, 4, 4\], label int64",
        ),
        (
            "Pictures",
            [*SMALL, "--lr_scheduler", "OneCycleLR", "--lr_scheduler.max_lr=0.1", "--lr_scheduler.total_steps=3"],
            r"the schedule is over and the stream is not .*: make it for more steps",
        ),
    ],
)
def test_what_does_not_fit_the_stream_is_one_line(
    started: Programs, folder: Path, served: Served, source: str, arguments: list[str], said: str
) -> None:
    url = served("--source", f"parts.{source}")
    complaint = started.start("trainer", "train", "--stream", url, *PLAIN, *arguments, cwd=folder).complaint()
    assert re.search(said, complaint), complaint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SMALL, "--batch_size", "32"], r"batch_size was 64, is 32: "),
        ([*SMALL, "--seed", "3", "--model.width", "9"], r": model.width was 8, is 9; seed was 0, is 3: "),
        ([], r"model was parts.Small, is trainer.model.GarmentClassifier: "),
        ([*SMALL, "--optimizer", "AdamW"], r"optimizer was torch.optim\S*SGD, is torch.optim\S*AdamW: "),
        ([*SMALL, "--optimizer.lr", "0.5"], r": optimizer.lr was 0.01, is 0.5: "),
        ([*SMALL, "--augment+", "RandomFlip"], r": augment was \[\], is \[trainer.transforms.RandomFlip\]: "),
        ([*SMALL, "--lr_scheduler", "ConstantLR"], r"lr_scheduler was None, is torch.optim.lr_scheduler.ConstantLR: "),
    ],
)
def test_a_checkpoint_of_other_settings_says_which_differ_and_stays(
    started: Programs, run: tuple[Path, str], arguments: list[str], said: str
) -> None:
    folder, url = run
    complaint = started.start("trainer", "train", "--stream", url, *arguments, *PLAIN, cwd=folder).complaint()
    assert "step-000000000320 belongs to another run: " in complaint
    assert re.search(said + "give these again, or another --run_dir, or --resume never", complaint), complaint
    assert verify(step(folder / "runs/default", 320)) == 320


@pytest.mark.slow
def test_a_run_directory_of_another_stream_names_both_and_stays(
    started: Programs, run: tuple[Path, str], served: Served
) -> None:
    folder, _ = run
    other = served("--source", "parts.Pictures", "--source.seed", "5")
    resume = ("--resume", str(listed(folder / "runs/default" / CHECKPOINTS)[0]))
    for arguments in ((), resume):
        program = started.start("trainer", "train", "--stream", other, *SMALL, *PLAIN, *arguments, cwd=folder)
        complaint = program.complaint()
        assert re.search(
            r"the run in runs/default belongs to another stream: expected stream \w{32}, found stream \w{32}.*: "
            r"give another --run_dir, or --resume never",
            complaint,
        ), complaint
    assert verify(step(folder / "runs/default", 320)) == 320


@pytest.mark.slow
def test_a_prediction_ends_with_whole_rows_at_ctrl_c_and_the_producer_knows_nothing_of_it(
    started: Programs, run: tuple[Path, str], served: Served
) -> None:
    folder, _ = run
    url = served("--source", "parts.Pictures", "--passes", "0", "--rate", "2000")
    told = folder / "told.csv"
    program = started.start("trainer", "predict", "--input", url, "--out", "told.csv", cwd=folder)
    wait_until(lambda: told.exists() and told.stat().st_size > 10_000, "some rows")
    assert groups(url) == ()
    program.signal(signal.SIGINT)
    assert program.status() == 0, program.err
    with told.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["prediction"] for row in rows} <= {"dark", "grey", "light"}
    assert all(len(row) == 6 and row["p_light"] for row in rows), "each is whole"
    assert f"stopped: what was predicted so far is written\ntrainer: {len(rows)} records predicted by" in program.err


def test_an_evaluation_without_test_records_is_one_line(started: Programs, run: tuple[Path, str]) -> None:
    complaint = started.start("trainer", "evaluate", cwd=run[0]).complaint()
    assert complaint.startswith("trainer: runs/default holds no test records: its stream has no split 'test'")


def test_a_model_learns_what_another_run_answers(started: Programs, run: tuple[Path, str]) -> None:
    folder, url = run
    pupil = ("--stream", url, "--run_dir", "runs/pupil", *SMALL, "--model.width", "4", *PLAIN, "--max_samples", "320")
    task = ("--task", "Distillation", "--task.teacher", "runs/default", "--task.labels", "0.1")
    trainer = started.start("trainer", "train", *pupil, *task, cwd=folder)
    assert trainer.status() == 0, trainer.err
    meaning = load(step(folder / "runs/pupil", 320))["meaning"]
    assert meaning["task"]["class_path"] == "trainer.distillation.Distillation"


def test_a_run_begins_with_the_weights_of_another_and_learns_only_what_is_not_frozen(
    started: Programs, run: tuple[Path, str]
) -> None:
    folder, url = run
    begun = ("--stream", url, *SMALL, *PLAIN, "--max_samples", "320", "--init_from", "runs/default")
    trunk = ("--init_names", "inner", "--freeze", "inner", "--seed", "9")
    trainer = started.start("trainer", "train", *begun, "--run_dir", "runs/head", *trunk, cwd=folder)
    assert trainer.status() == 0, trainer.err
    assert (
        "2 of 4 tensors of the model were taken from runs/default/best/step-000000000320" in trainer.err + trainer.out
    )
    first, before = (load(step(folder / f"runs/{each}", 320))["model"] for each in ("head", "default"))
    assert all(torch.equal(first[name], before[name]) == name.startswith("inner") for name in first)
    again = (*begun[:-4], "--max_samples", "640", "--init_from", "gone", "--run_dir", "runs/head", *trunk)
    assert (program := started.start("trainer", "train", *again, cwd=folder)).status() == 0, program.err


# --- faults of the data and the machine --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        (["--source.wrong", "700"], [], r"label 99 is out of range"),
        (["--source.nan", "700"], [], r"the loss is not a number any more at 7\d\d samples"),
        ([], ["--optimizer.lr", "1e30"], r"not (a )?numbers? any more"),
    ],
)
def test_a_fault_in_the_data_ends_with_status_1_and_names_the_last_good_checkpoint(
    started: Programs, folder: Path, served: Served, source: list[str], arguments: list[str], said: str
) -> None:
    url = served("--source", "parts.Camera", *source)
    every = ("--checkpoint_every", "200", "--report_every", "100")
    trainer = started.start("trainer", "train", "--stream", url, *SMALL, *PLAIN, *every, *arguments, cwd=folder)
    complaint = trainer.complaint(status=1)
    found = re.search(rf"{said}.*; the last good checkpoint is (runs/default/checkpoints/step-\d+)$", complaint)
    assert found, complaint
    state = load(folder / found[found.lastindex or 0])
    assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())
    assert state["samples"] == (0 if arguments else 640), "the last multiple of 200 before the fault, in whole batches"


@pytest.mark.slow
def test_a_full_disk_is_said_loudly_and_the_run_goes_on(
    started: Programs, folder: Path, served: Served, small_disk: Path
) -> None:
    url = served("--source", "parts.Camera", "--source.pause", "200", "--source.stop", "700")
    settings = (*SMALL, "--model.width", "400", "--checkpoint_every", "200", "--run_dir", str(small_disk))
    trainer = started.start("trainer", "train", "--stream", url, *settings, *PLAIN, cwd=folder)
    wait_until(step(small_disk, 0).exists, "the first checkpoint")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    (folder / "go").touch()
    wait_until(lambda: "NOT SAVED" in trainer.out, "the first save that fails")
    filler.unlink()
    (folder / "on").touch()
    assert trainer.status() == 0, trainer.err
    loud = [line for line in trainer.out.splitlines() if "NOT SAVED" in line]
    assert re.search(
        r"checkpoint at \d+ samples NOT SAVED in \S+: No space left on device; training goes on, the last good one is "
        rf"{step(small_disk, 0)}",
        loud[0],
    ), loud
    assert verify(step(small_disk, 1000)) == 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


# --- ends and resumes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_run_of_the_same_command_goes_on_and_says_so(started: Programs, folder: Path, served: Served) -> None:
    url = served("--source", "parts.Pictures", "--passes", "2")
    command = ("train", "--stream", url, *SMALL, *PLAIN)
    first = started.start("trainer", *command, "--max_samples", "320", cwd=folder)
    assert first.status() == 0, first.err
    assert "the limit is reached: saved at 320 samples" in first.out
    assert "resumed" not in first.out
    assert "see it with: tensorboard" not in first.out, "there is nothing to be seen (--tensorboard false)"
    second = started.start("trainer", *command, cwd=folder)
    assert second.status() == 0, second.err
    checkpoint = Path("runs/default/checkpoints/step-000000000320")
    assert f"resumed from {checkpoint} at 320 samples" in second.out
    assert "the stream has ended: all of it was trained, 1,200 samples" in second.out
    assert first.err == second.err == ""


@pytest.mark.slow
def test_resume_never_begins_anew_and_a_path_goes_back(started: Programs, folder: Path, served: Served) -> None:
    url = served("--source", "parts.Pictures", "--passes", "1")
    command = ("train", "--stream", url, *SMALL, *PLAIN, "--checkpoint_every", "128")
    assert started.start("trainer", *command, cwd=folder).status() == 0
    oldest = listed(folder / "runs/default" / CHECKPOINTS)[0]
    samples = verify(oldest)
    limit = ("--max_samples", str(samples + 64))
    back = started.start("trainer", *command, "--resume", str(oldest), *limit, cwd=folder)
    assert back.status() == 0, back.err
    assert f"resumed from {oldest} at {samples} samples" in back.out
    assert f"saved at {samples + 64} samples" in back.out
    anew = started.start("trainer", *command, "--resume", "never", "--max_samples", "64", cwd=folder)
    assert anew.status() == 0, anew.err
    assert "resumed" not in anew.out
    assert "saved at 64 samples" in anew.out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_trainer_saves_what_it_has_trained_and_ends_with_0(
    started: Programs, folder: Path, served: Served, number: signal.Signals
) -> None:
    url = served("--source", "parts.Endless")
    arguments = ("train", "--stream", url, *SMALL, *PLAIN, "--report_every", "100")
    trainer = started.start("trainer", *arguments, cwd=folder)
    assert stopped(trainer, folder, number) >= 100


@pytest.mark.slow
def test_a_trainer_stops_on_a_silent_stream_as_well(started: Programs, folder: Path, served: Served) -> None:
    url = served("--source", "parts.Camera", "--source.pause", "128")
    arguments = ("train", "--stream", url, *SMALL, *PLAIN, "--report_every", "100")
    assert stopped(started.start("trainer", *arguments, cwd=folder), folder, signal.SIGTERM) == 128


@pytest.mark.faults
def test_ctrl_c_at_a_trainer_that_was_started_by_hand_saves_as_well(folder: Path, served: Served) -> None:
    """Not forked: with its own import of torch, and a worker process."""
    url = served("--source", "parts.Endless")
    program = [sys.executable, "-m", "trainer", "train", "--stream", url, "--workers", "1", "--report_every", "100"]
    with subprocess.Popen(
        [*program, *SMALL, *PLAIN], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        seen = ""
        while "loss" not in seen:
            seen = process.stdout.readline()
            assert seen, process.communicate()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"stopped by SIGINT: saved at [\d,]+ samples", out), out


def stopped(trainer: Program, folder: Path, number: signal.Signals) -> int:
    """Stop a trainer that has reported; the samples of its last checkpoint, which is what it says."""
    wait_until(lambda: "loss" in trainer.out or trainer.err, "the first report")
    trainer.signal(number)
    assert trainer.status() == 0, trainer.err
    assert trainer.err == ""
    said = re.search(rf"stopped by {number.name}: saved at ([\d,]+) samples", trainer.out)
    assert said, trainer.out
    samples = int(said[1].replace(",", ""))
    newest = listed(folder / "runs/default" / CHECKPOINTS)[-1]
    assert verify(newest) == load(newest)["samples"] == samples
    return samples


@pytest.mark.slow
def test_an_idle_time_out_saves_and_ends_with_0_and_says_why(started: Programs, folder: Path, served: Served) -> None:
    url = served("--source", "parts.Camera", "--source.pause", "128")
    arguments = ("train", "--stream", url, *SMALL, *PLAIN, "--idle_timeout", "0.5")
    trainer = started.start("trainer", *arguments, cwd=folder)
    assert trainer.status() == 0, trainer.err
    assert re.search(r"no record came within the idle time-out: saved at \d+ samples", trainer.out)


# --- evaluate ----------------------------------------------------------------------------------------------------


def test_evaluate_shows_the_best_checkpoint_on_the_test_records(
    started: Programs, folder: Path, served: Served
) -> None:
    (folder / "split.py").write_text(SPLIT)
    url = served("--source", "split.WithTest", "--passes", "3")
    settings = (*SMALL, "--optimizer.lr", "0.1", "--validate_every", "300")
    metric = ("--metrics+", "torchmetrics.classification.MulticlassF1Score", "--metrics.num_classes", "3")
    trainer = started.start("trainer", "train", "--stream", url, *settings, *metric, *PLAIN, cwd=folder)
    assert trainer.status() == 0, trainer.err
    assert re.search(r"validation  loss \S+  acc \S+  multiclass_f1_score [01]\.\d{3}", trainer.out)
    told = started.start("trainer", "evaluate", "--json", *metric, cwd=folder)
    assert told.status() == 0, told.err
    figures = json.loads(told.out)
    assert figures["count"] == 90
    assert figures["accuracy"] > 0.9
    assert figures["multiclass_f1_score"] > 0.9
    assert list(figures["per_class"]) == ["dark", "grey", "light"]
    assert figures["checkpoint"].startswith("runs/default/best/step-")
    shown = started.start("trainer", "evaluate", cwd=folder)
    assert shown.status() == 0, shown.err
    assert re.search(rf"accuracy +{figures['accuracy']:.4f}", shown.out)
    assert "on 90 test records" in shown.out
    assert (
        shown.err
        == told.err
        == (f"trainer: {figures['checkpoint']} names classes, whose code will run: 'parts.Small'\n")
    )


SPLIT = '''
import numpy as np

from parts import Pictures
from producer.dataset_source import DatasetSource
from producer.source import Subset

class WithTest(Subset):
    """Pictures with both splits."""

    def __init__(self) -> None:
        splits = {"validation": DatasetSource(Pictures(60)), "test": DatasetSource(Pictures(90))}
        super().__init__(DatasetSource(Pictures(300)), np.arange(300), splits=splits)
'''
