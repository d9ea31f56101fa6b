"""What a run learns from a recording is what it would have learnt from the stream."""

from pathlib import Path

import pytest
import torch

from tests.programs import ROOT, Program, Programs, wait_until
from trainer.checkpoint_files import State, load_newest

RECORDS = 640
SOURCE = ("--source", "tests.trainer.numbered.NumberedPictures", "--source.records", str(RECORDS))


@pytest.mark.slow
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
