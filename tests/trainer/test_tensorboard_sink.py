import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.custom_scalar import layout_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.graph import graph_of
from trainer.history import History
from trainer.model import GarmentClassifier
from trainer.report import Fact, Graph, Histograms, Notice, Pictures, Report, Standing, Start, ValidationReport
from trainer.tasks import Classification
from trainer.tensorboard_sink import TensorBoardSink, command_line, event_files, wait_for_a_later_name

INFO = StreamInfo(
    incarnation="x",
    schema=Schema((Field("label", "int64"),), label="label", class_names=("Bag", "Coat")),
    dealing=Dealing(1, 1),
)


def start(samples: int = 0, *, resumed: bool = False, lr: float = 0.1) -> Start:
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": lr, "fused": None}}
    return Start(
        samples=samples, resumed=resumed, run_dir="r", stream="tcp://a:1", info=INFO, model="M", device="cpu",
        settings={"optimizer": optimizer, "seed": 3, "freeze": "", "workers": 2}, environment={"torch": "2.0"},
    )  # fmt: skip


def report(samples: int, *, lag: int | None = 3) -> Report:
    stream = Standing(state="streaming", lag=lag, log_end=None, ledger={"trained": samples, "lost": 0}, balanced=True)
    return Report(
        samples=samples,
        batches=samples // 64,
        train={"loss": 64 / samples, "accuracy": 1 - 64 / samples, "count": 64.0},
        learning_rate=0.1,
        norms={"gradient": 3.0, "weight": 9.0},
        samples_per_s=1000.0,
        sample_age_ms_p50=1.0,
        sample_age_ms_p99=2.0,
        stream=stream,
        stages={"step": 0.75, "source": 0.25},
        prequential={"loss_window": 0.5, "accuracy_fading": 0.75, "count": 64.0},
    )


def validation(samples: int, *, best: bool = True) -> ValidationReport:
    metrics = {"loss": 32 / samples, "accuracy": 0.5, "count": 5.0}
    return ValidationReport(samples=samples, metrics=metrics, best=best, per_class={"Bag": 0.75, "Ankle boot": 0.25})


def write(log_dir: Path, *facts: Fact) -> TensorBoardSink:
    """A life that is left as a kill leaves it: flushed, never closed."""
    history = History()
    sink = TensorBoardSink(log_dir, history)
    for fact in facts:
        history.add(fact)
        sink.write(fact)
    sink.flush()
    return sink


def read(log_dir: Path) -> Any:
    """The charts and pictures as people read them."""
    accumulator = EventAccumulator(str(log_dir), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def tensors(log_dir: Path, tag: str) -> list[tuple[int, bytes]]:
    """What is kept as tensors as TensorBoard itself reads it: the other accumulator purges none of them."""
    accumulator = plugin_event_accumulator.EventAccumulator(str(log_dir), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [(event.step, event.tensor_proto.string_val[0]) for event in accumulator.Tensors(tag)]


def hparams(log_dir: Path) -> dict[str, bytes]:
    """What TensorBoard's own server knows of the settings, by tag."""
    accumulator = plugin_event_accumulator.EventAccumulator(str(log_dir))
    accumulator.Reload()
    return dict(accumulator.PluginTagToContent("hparams"))


def hyperparameters(log_dir: Path) -> dict[str, Any]:
    told = HParamsPluginData.FromString(hparams(log_dir)["_hparams_/session_start_info"])
    values = told.session_start_info.hparams.items()
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values}


def points(log_dir: Path, tag: str) -> list[tuple[int, Any]]:
    return [(event.step, pytest.approx(event.value)) for event in read(log_dir).Scalars(tag)]


def texts(log_dir: Path, tag: str) -> list[tuple[int, str]]:
    return [(step, text.decode()) for step, text in tensors(log_dir, f"{tag}/text_summary")]


def test_every_number_of_a_report_and_a_validation_is_a_chart_over_samples(tmp_path: Path) -> None:
    write(tmp_path, start(), report(64), report(128), validation(128)).close()
    assert set(read(tmp_path).Tags()["scalars"]) == {
        *("loss/train", "accuracy/train", "loss/validation", "accuracy/validation", "learning_rate", "lag"),
        *("throughput/samples_per_s", "sample_age_ms/p50", "sample_age_ms/p99", "ledger/trained", "ledger/lost"),
        *("stages/step", "stages/source", "norm/gradient", "norm/weight", "loss/best", "accuracy/best"),
        *("accuracy_by_class/Bag", "accuracy_by_class/Ankle boot"),
        *("prequential/loss_window", "prequential/accuracy_fading"),
    }
    assert points(tmp_path, "loss/train") == [(64, 1.0), (128, 0.5)]
    assert points(tmp_path, "loss/validation") == [(128, 0.25)]
    assert points(tmp_path, "ledger/trained") == [(64, 64.0), (128, 128.0)]


def test_what_is_unknown_has_no_point(tmp_path: Path) -> None:
    write(tmp_path, start(), report(64, lag=None), report(128)).close()
    assert points(tmp_path, "lag") == [(128, 3.0)]


def test_training_and_validation_loss_share_one_chart(tmp_path: Path) -> None:
    write(tmp_path, start()).close()
    ((_, encoded),) = tensors(tmp_path, "custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(encoded)
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["loss"] == ["^loss/train$", "^loss/(validation.*|stream_validation|held_out.*)$"]
    assert charts["accuracy of each class"] == ["^accuracy_by_class/.*$"]
    assert charts["where time goes, in shares"] == ["^stages/.*$"]
    assert charts["prequential loss"] == ["^prequential/loss_.*$"]
    assert {
        *("accuracy", "prequential accuracy", "learning rate", "gradient norm", "weight norm"),
        *("samples per second", "lag in records"),
    } < set(charts)


def test_through_kills_and_resumes_each_step_stands_once(tmp_path: Path) -> None:
    write(tmp_path / "never", start(), *(fact for n in range(1, 11) for fact in (report(64 * n), validation(64 * n))))
    killed = tmp_path / "killed"
    write(killed, start(), *(fact for n in range(1, 6) for fact in (report(64 * n), validation(64 * n))))
    write(killed, start(128, resumed=True), report(192), validation(192), report(256))
    write(
        killed,
        start(192, resumed=True),
        *(fact for n in range(4, 11) for fact in (report(64 * n), validation(64 * n))),
    )
    for tag in read(tmp_path / "never").Tags()["scalars"]:
        assert points(killed, tag) == points(tmp_path / "never", tag), tag
    assert [step for step, _ in points(killed, "loss/train")] == [64 * n for n in range(1, 11)]
    assert len(tensors(killed, "custom_scalars__config__")) == 1


def test_a_run_that_resumed_nothing_shows_nothing_of_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, start(lr=0.5), Notice(samples=0, text="old"), report(64), report(128))
    write(tmp_path, start(), report(32))
    assert points(tmp_path, "loss/train") == [(32, 2.0)]
    assert "events/text_summary" not in read(tmp_path).Tags()["tensors"]
    assert len(tensors(tmp_path, "custom_scalars__config__")) == 1
    assert hyperparameters(tmp_path)["optimizer.lr"] == 0.1


def test_settings_of_meaning_are_told_once_and_beside_them_which_charts_they_are_compared_by(tmp_path: Path) -> None:
    write(tmp_path, start(), report(64))
    write(tmp_path, start(64, resumed=True), report(128))
    assert hyperparameters(tmp_path) == {"optimizer": "torch.optim.SGD", "optimizer.lr": 0.1, "seed": 3}
    experiment = HParamsPluginData.FromString(hparams(tmp_path)["_hparams_/experiment"]).experiment
    charts = {each.name.tag for each in experiment.metric_infos}
    assert {"loss/best", "accuracy/best", "loss/validation", "loss/train"} < charts
    told = sum(each.count(b"_hparams_/session_start_info") for each in map(Path.read_bytes, event_files(tmp_path)))
    assert told == 1


def test_the_best_validation_so_far_is_the_last_value_under_best(tmp_path: Path) -> None:
    write(tmp_path, start(), validation(64), validation(128), validation(192, best=False))
    assert points(tmp_path, "loss/best") == [(64, 0.5), (128, 0.25)]
    assert len(points(tmp_path, "loss/validation")) == 3


def test_a_histogram_has_all_values_that_it_was_given(tmp_path: Path) -> None:
    values = np.random.RandomState(0).normal(size=1000).astype(np.float32)
    facts = [Histograms(samples=64, values={"weights/a": values, "gradients/a": np.zeros(3, np.float32)})]
    write(tmp_path, start(), *facts)
    (event,) = read(tmp_path).Histograms("weights/a")
    found = event.histogram_value
    assert (event.step, found.num) == (64, 1000)
    assert (found.min, found.max) == pytest.approx((values.min(), values.max()))
    assert sum(found.bucket) == 1000
    assert read(tmp_path).Histograms("gradients/a")[0].histogram_value.num == 3


def test_the_graph_of_the_model_is_kept(tmp_path: Path) -> None:
    columns = {"image": torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "label": torch.zeros(2, dtype=torch.int64)}
    graph = graph_of(GarmentClassifier(), Classification(), columns, torch.device("cpu"))
    write(tmp_path, start(), Graph(samples=64, graph=graph))
    assert any("GarmentClassifier/Conv2d[conv1]" in node.name for node in read(tmp_path).Graph().node)


@pytest.mark.slow
def test_after_a_real_kill_what_was_flushed_stands(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_tensorboard_sink import *\n"
        "sink = write(Path(sys.argv[1]), start(), report(64), report(128), report(192))\n"
        "sink.write(report(256))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [step for step, _ in points(tmp_path, "loss/train")][:3] == [64, 128, 192]
    write(tmp_path, start(128, resumed=True), report(192), report(256))
    assert [step for step, _ in points(tmp_path, "loss/train")] == [64, 128, 192, 256]


def test_the_last_text_of_a_step_says_all_that_happened_in_it(tmp_path: Path) -> None:
    facts = [Notice(samples=64, text="the producer is away"), Notice(samples=64, text="it is back")]
    write(tmp_path, start(), *facts, Notice(samples=128, text="over-fitting"))
    assert dict(texts(tmp_path, "events")) == {64: "the producer is away\n\nit is back", 128: "over-fitting"}


def test_marks_of_markdown_in_a_notice_are_shown_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, start(), Notice(samples=1, text="<b> *a* `b` [c]"))
    assert texts(tmp_path, "events") == [(1, r"\<b> \*a\* \`b\` \[c\]")]


def test_stream_classes_and_settings_are_told_at_the_start(tmp_path: Path) -> None:
    write(tmp_path, start())
    assert "| classes | `Bag, Coat` |" in dict(texts(tmp_path, "run/stream"))[0]
    assert "| optimizer.init_args.lr | `0.1` |" in dict(texts(tmp_path, "run/settings"))[0]
    assert "| torch | `2.0` |" in dict(texts(tmp_path, "run/environment"))[0]


def test_pictures_are_kept_pixel_by_pixel(tmp_path: Path) -> None:
    sheet = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    write(tmp_path, start(), Pictures(samples=64, name="loader", sheet=sheet))
    (event,) = read(tmp_path).Images("loader")
    assert (event.step, event.height, event.width) == (64, 20, 30)
    assert (np.asarray(Image.open(BytesIO(event.encoded_image_string))) == sheet).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # how the writer's thread ends
@pytest.mark.parametrize("met_by", ["write", "flush"])
def test_after_a_disk_failed_a_new_file_goes_on_beside_the_old_one(tmp_path: Path, met_by: str) -> None:
    log_dir, aside = tmp_path / "tensorboard", tmp_path / "aside"
    sink = write(log_dir, start(), report(64))
    log_dir.rename(aside)
    with pytest.raises(OSError, match="No such file"):
        _write_until_it_fails(sink, flush=met_by == "flush")
    aside.rename(log_dir)
    sink.write(report(100_000))
    sink.close()
    assert [step for step, _ in points(log_dir, "loss/train")] == [64, 100_000]


def _write_until_it_fails(sink: TensorBoardSink, *, flush: bool) -> None:
    for samples in range(128, 64_000, 64):  # the thread meets it, whoever comes next is told
        sink.write(report(samples))
        if flush:
            sink.flush()
        time.sleep(0.01)


def test_a_folder_that_cannot_be_made_is_tried_again_and_still_purges(tmp_path: Path) -> None:
    log_dir = tmp_path / "tensorboard"
    write(log_dir, start(), report(64), report(128))
    log_dir.rename(tmp_path / "aside")
    log_dir.touch()
    sink = TensorBoardSink(log_dir, History())
    with pytest.raises(OSError, match="exists"):
        sink.write(start(64, resumed=True))
    log_dir.unlink()
    (tmp_path / "aside").rename(log_dir)
    sink.write(report(192))
    sink.close()
    assert [step for step, _ in points(log_dir, "loss/train")] == [64, 192]


def test_a_life_that_follows_within_the_same_second_is_read_after_the_one_before(tmp_path: Path) -> None:
    last = f"events.out.tfevents.{int(time.time()):010}.zzz.99999.9"  # noqa: TID251  (as TensorBoard names its files)
    (tmp_path / last).touch()
    write(tmp_path, start(resumed=True), report(64))
    assert event_files(tmp_path)[0].name == last


def test_a_clock_that_was_set_back_for_long_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / f"events.out.tfevents.{int(time.time()) + 3600:010}.host.1.0").touch()  # noqa: TID251
    began_s = time.monotonic()
    wait_for_a_later_name(tmp_path)
    assert time.monotonic() - began_s < 0.5


def test_a_sink_that_was_never_started_leaves_no_file(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path / "tensorboard", History())
    sink.flush()
    sink.close()
    assert not (tmp_path / "tensorboard").exists()


def test_the_command_line_shows_the_run_when_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    command = command_line(tmp_path / "my runs" / "x")
    assert command.endswith(" --logdir 'my runs/x'")
    help_text = subprocess.run(["sh", "-c", f"{command} --version_tb"], capture_output=True, text=True, check=True)
    assert help_text.stdout.strip()
