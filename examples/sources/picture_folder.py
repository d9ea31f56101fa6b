"""A folder that is watched: ROOT/ant/1.jpg is a picture of the class `ant`, and travels as the JPEG's own bytes.

    python -m producer --source examples.sources.picture_folder.Pictures --source.root photos --log.path photos.log
    python -m protocol peek tcp://127.0.0.1:5555

It replays in the order in which the files came (their ctime): move pictures in whole, and take none out.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocol.errors import UsageError
from protocol.schema import Field, Schema

SUFFIXES = (".jpg", ".jpeg")


class Pictures:
    """Pictures of the classes that the folder has subfolders of when this begins.

    Args:
        root: folder with a subfolder for each class
        poll_s: seconds between two looks
        settled_s: how old a file is when it is taken, so that none can come before it
    """

    def __init__(self, root: str, poll_s: float = 0.5, settled_s: float = 1.0) -> None:
        self.root, self.poll_s, self.settled_s = Path(root), poll_s, settled_s
        classes = tuple(sorted(each.name for each in self.root.glob("*") if each.is_dir()))
        if not classes:
            raise UsageError(f"{root} has no subfolders: give a folder with one for each class")
        fields = (Field("image", "uint8", (None,)), Field("label", "int64"))
        self.schema = Schema(fields, "label", classes, (0, len(classes) - 1))

    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        """The pictures from number `resume_at` on, for ever."""
        taken = resume_at
        while True:
            found = self.settled()
            if len(found) < taken:
                raise UsageError(f"{self.root} has {len(found)} pictures where {taken} were taken: take none out")
            for path in found[taken:]:
                yield {"image": path.read_bytes(), "label": self.schema.class_names.index(path.parent.name)}
            taken = len(found)
            time.sleep(self.poll_s)

    def settled(self) -> list[Path]:
        before_ns = time.time_ns() - int(self.settled_s * 1e9)
        pictures = (each for name in self.schema.class_names for each in (self.root / name).iterdir())
        came = sorted((each.stat().st_ctime_ns, each) for each in pictures if each.suffix.lower() in SUFFIXES)
        return [path for ctime_ns, path in came if ctime_ns <= before_ns]
