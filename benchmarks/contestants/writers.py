"""Writers of `.beton` files: `--flavor=ffcv` or `--flavor=ours`. An epoch is one complete file.

Each package gets the dataset that its users have: FFCV gets PIL images, as torchvision's
`ImageFolder` returns them; ffcv_ssl gets paths.
"""

import sys
from collections.abc import Sequence
from typing import Any

from protocol import Batches, need, serve

FFCV, OURS = "ffcv", "ours"
LABEL = 0


class Paths(Sequence[tuple[Any, int]]):
    """Paths of a job, repeated up to its number of images."""

    def __init__(self, job: dict[str, Any]):
        self.paths = job["paths"]
        self.count = job["num_images"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.paths[index % len(self.paths)], LABEL


class Decoded(Paths):
    """The same images as decoded PIL images."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        path, label = super().__getitem__(index)
        return Image.open(path).convert("RGB"), label


class Writer:
    """Contestant with the writer of either package; `job["options"]` configures its image field."""

    def __init__(self, flavor: str):
        self.flavor = flavor
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict[str, Any]) -> None:
        need(self.module, f"; set --ffcv-python to a Python with {self.module}")
        self.job = job
        self.dataset = Decoded(job) if self.flavor == FFCV else Paths(job)

    @property
    def module(self) -> str:
        return "ffcv" if self.flavor == FFCV else "ffcv_ssl"

    def batches(self) -> Batches:
        """Yield an empty first batch, then write the file and yield its images as one batch."""
        yield 0, []
        if self.flavor == FFCV:
            from ffcv.fields import IntField, RGBImageField
            from ffcv.writer import DatasetWriter

            quiet = {}
        else:
            from ffcv_ssl.fields import IntField, RGBImageField
            from ffcv_ssl.writer import DatasetWriter

            quiet = {"progress": False}
        fields = {"image": RGBImageField(**self.job["options"]), "label": IntField()}
        DatasetWriter(
            self.job["target"], fields, num_workers=self.job["workers"], **quiet
        ).from_indexed_dataset(self.dataset)
        yield len(self.dataset), []


if __name__ == "__main__":
    flavor = sys.argv[1].removeprefix("--flavor=")
    serve(
        lambda: Writer(flavor),
        (
            "ffcv",
            "ffcv_ssl",
            "numpy",
            "pillow",
            "simplejpeg",
            "opencv-python",
            "opencv-python-headless",
        ),
    )
