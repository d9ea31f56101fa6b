"""What a run learns from a recording is what it would have learnt from the stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from producer.computed_log import split_log
from producer.replay import ReplaySettings, replayed
from protocol.log_folder import LogFolder
from protocol.open_reader import open_reader
from protocol.recording import Recording
from tests.programs import ROOT, Program, Programs, wait_until
from tests.trainer.numbered import NumberedPictures
from tests.trainer.streams import computed, serving
from trainer.checkpoint_files import State, load_newest
from trainer.loader import StreamLoader

RECORDS, BATCH = 640, 32
SOURCE = ("--source", "tests.trainer.numbered.NumberedPictures", "--source.records", str(RECORDS))


class Learning:
    """A plain loop over a loader's batches, and the weights that it comes to."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
        self.position: dict[str, object] | None = None

    def learn(self, url: str, batches: int | None = None) -> Tensor:
        """Go on where it stood, by so many batches or to the stream's end."""
        loader = StreamLoader(url, batch_size=BATCH)
        if self.position is None:
            torch.manual_seed(3)  # of the first weights, which the first batch makes
        else:
            loader.load_state_dict(self.position)
        for batch in islice(loader, batches):
            loss = nn.functional.cross_entropy(self.model(batch["image"].float() / 255), batch["label"])
            self.model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for weight in self.model.parameters():
                    assert weight.grad is not None
                    weight.sub_(0.1 * weight.grad)
            loader.mark_trained(batch)
        self.position = loader.state_dict()
        return torch.cat([weight.detach().reshape(-1) for weight in self.model.parameters()])


@contextmanager
def replay(folder: Path, **settings: float) -> Iterator[str]:
    stream, _ = replayed(ReplaySettings(replay=str(folder), **settings))  # type: ignore[arg-type]
    with serving(stream) as url:
        yield url
    stream.close()


def test_a_replay_teaches_the_same_bits_as_the_live_stream_also_half_way(tmp_path: Path) -> None:
    moving, source = Learning(), NumberedPictures(RECORDS)
    splits = {name: split_log(split) for name, split in source.splits().items()}
    with serving(computed(source, partitions=3, rate=20_000, seed=5), splits=splits) as live:
        with open_reader(live) as reader, LogFolder(tmp_path, write=True) as folder:
            recording = Recording(reader, folder, timeout_s=30)
            recording.record_splits()
            assert list(recording.follow())[-1] == RECORDS
        expected = Learning().learn(live)
        moving.learn(live, batches=7)
    with replay(tmp_path, pace=2) as again:
        assert torch.equal(Learning().learn(again), expected)
        assert torch.equal(moving.learn(again), expected)
    assert torch.equal(Learning().learn(f"file://{tmp_path}"), expected)


@pytest.mark.long
def test_a_run_that_goes_on_with_a_replay_is_bit_identical_to_the_one_that_stayed_live(
    started: Programs, tmp_path: Path
) -> None:
    live, again, recording = f"ipc://{tmp_path}/live", f"ipc://{tmp_path}/again", str(tmp_path / "recording")

    def train(run: str, stream: str, *options: str) -> State:
        shown = ("--display", "none", "--tensorboard", "false", "--device", "cpu", "--checkpoint_every", "64")
        where = ("--stream", stream, "--run_dir", str(tmp_path / run))
        program = started.start("trainer", "train", *where, *shown, *options, cwd=ROOT)
        assert program.status() == 0, program.err
        found = load_newest(tmp_path / run, pytest.fail)
        assert found is not None
        return found[1]

    def served(url: str, *arguments: str) -> Program:
        producer = started.start("producer", "--bind", url, *arguments, cwd=ROOT)
        wait_until(lambda: "serving" in producer.out or producer.err, "the producer")
        return producer

    producer = served(live, *SOURCE, "--passes", "1", "--rate", "4000", "--partitions", "3", "--seed", "5")
    recorder = started.start("protocol", "record", live, recording, cwd=ROOT)
    whole = train("whole", live)
    moved = train("moved", live, "--max_samples", "256")
    assert (whole["samples"], moved["samples"]) == (RECORDS, 256)
    assert recorder.status() == 0, recorder.err
    producer.signal(15)
    served(again, "--replay", recording, "--pace", "0.5")
    moved = train("moved", again)
    assert moved["samples"] == RECORDS
    assert moved["stream"]["positions"] == whole["stream"]["positions"]
    for name, weight in whole["model"].items():
        assert torch.equal(moved["model"][name], weight), name
