"""The peers, and how one of them is run: a fresh process in its own environment that answers with one line of JSON."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import environment
from benchmarks.processes import kill_session

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class PeerFailed(Exception):
    """A peer gave no figures. Its text is one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to load data that somebody might use instead."""

    name: str
    """As the table shows it."""
    script: str
    """File beside this one."""
    options: tuple[str, ...] = ()
    """Further arguments of the script."""
    requirements: tuple[str, ...] = ()
    """All that its environment needs beside this one's packages, pinned; none: it runs in this environment."""
    always: bool = False
    """Whether it is measured without being asked for."""


@dataclass(frozen=True, kw_only=True)
class PeerResult:
    """What a peer delivered while it was measured."""

    records_per_s: float
    records: int
    cpu_s_per_million: float
    """CPU seconds of all its processes for a million records."""
    peak_bytes: int
    """Peaks of resident memory of all its processes, summed."""
    verified: bool
    """True: a peer whose batches are not what they should be raises instead."""
    version: str
    """Of the package that the peer is."""
    age_p50_ms: float | None = None
    """Median age of the newest record of each batch; None where records bear no send time."""
    age_p99_ms: float | None = None


# Only what is imported to read from this machine; mosaicml-streaming's clients of clouds are left out.
_MOSAICML_STREAMING = (
    "mosaicml-streaming==0.13.0",
    *("numpy==2.1.3", "transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.2", "safetensors==0.8.0"),
    *("regex==2026.11.19", "requests==2.34.2", "certifi==2026.10.19.post1", "charset-normalizer==3.5.2"),
    *("idna==3.20", "urllib3==2.8.0", "tqdm==4.70.1", "catalogue==2.0.10", "xxhash==3.8.2"),
    *("Brotli==1.2.1", "python-snappy==0.7.3", "cramjam==2.14.0", "zstd==1.5.7.2", "opentelemetry-api==1.45.2"),
)
_HF_DATASETS = (
    "datasets==5.2.0",
    *("pyarrow==26.0.1", "pandas==3.1.1", "dill==0.4.1", "multiprocess==0.70.19", "xxhash==4.1.0", "tqdm==4.70.1"),
    *("huggingface-hub==2.4.0", "hf-xet==1.8.0", "httpx2==2.16.2", "httpcore2==2.16.2", "h11==0.16.0"),
    *("anyio==4.16.0", "idna==3.20", "truststore==0.10.5", "click==8.5.1"),
    *("python-dateutil==2.9.0.post0", "six==1.17.0"),
)

PEERS: tuple[Peer, ...] = (
    Peer(name="torchvision", script="torchvision_dataset.py", always=True),
    Peer(name="naive", script="naive.py", always=True),
    Peer(
        name="tensorcom",
        script="tensorcom_peer.py",
        requirements=("tensorcom==0.1.0", "braceexpand==0.1.7"),
    ),
    Peer(
        name="WebDataset",
        script="webdataset_peer.py",
        requirements=("webdataset==1.0.2", "braceexpand==0.1.7"),
    ),
    Peer(
        name="MosaicML Streaming",
        script="mosaicml_streaming_peer.py",
        requirements=_MOSAICML_STREAMING,
    ),
    *(
        Peer(
            name=f"HF datasets, {form.replace('_', ' ')}",
            script="hf_datasets_peer.py",
            options=("--form", form),
            requirements=_HF_DATASETS,
        )
        for form in ("in_memory", "iterable")
    ),
)


def run_peer(  # noqa: PLR0913  (each is a thing to choose)
    peer: Peer,
    *,
    data: Path,
    batch_size: int,
    workers: int,
    seconds: float,
    timeout_s: float,
    say: Callable[[str], None],
    rate: float = 0.0,
) -> PeerResult:
    """Measure a peer for `seconds` on the training side of the FashionMNIST below `data`.

    `timeout_s` bounds the whole of its process, preparation of data included, but not the making of its environment,
    of which `say` hears. `rate` (records a second, 0: as fast as it can) is for peers that can be paced. Nothing of it
    is left when this returns or raises: neither processes nor files nor shared memory. Raises `PeerFailed`.
    """
    try:
        python = environment.python_for(peer.requirements, say)
    except environment.EnvironmentFailed as error:
        raise PeerFailed(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="headrace-peer-") as folder:
        command = [str(python), "-P", "-W", "ignore", str(HERE / peer.script), *peer.options]
        for name, value in (
            ("data", data.resolve()),
            ("batch_size", batch_size),
            ("workers", workers),
            ("seconds", seconds),
            ("scratch", folder),
            *((("rate", rate),) if rate else ()),
        ):
            command += [f"--{name}", str(value)]
        return _result(*_run(command, Path(folder), timeout_s))


def _run(command: list[str], folder: Path, timeout_s: float) -> tuple[int, str, str]:
    """(exit status, what it printed, what it complained of) of a process in a session of its own, which is ended."""
    out, err = folder / "out", folder / "err"  # files, since pipes stay open as long as any child lives
    # Whatever keeps temporary files or a cache keeps them here, and asks no server for anything.
    own = {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder), "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    with out.open("w") as out_file, err.open("w") as err_file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise PeerFailed(f"no figures within {timeout_s:g} s") from error
        finally:
            kill_session(process.pid)
            process.wait()
    return status, out.read_text(errors="replace"), err.read_text(errors="replace")


def _result(status: int, out: str, err: str) -> PeerResult:
    """What a script has printed last. Raises `PeerFailed`."""
    if status:
        raise PeerFailed(_last_line(err) or f"it ended with status {status} and said nothing")
    try:
        figures = json.loads(_last_line(out))
    except ValueError as error:
        raise PeerFailed(f"its last line is not JSON but '{_last_line(out)[:80]}'") from error
    if not isinstance(figures, dict) or figures.get("verified") is not True:
        raise PeerFailed("its figures are of batches that nobody has verified")
    try:
        return PeerResult(**figures)
    except TypeError as error:
        raise PeerFailed(f"its figures are not those that are due: {error}") from error


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
