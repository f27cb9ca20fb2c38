"""A writer of .beton files: `--flavour=ffcv` or `--flavour=ours`. An epoch is one file, from the first line to the last byte handed over.

A dataset is what a user of each package has: FFCV gets PIL images (as torchvision's folders give them), ours gets the paths.
"""

import sys
from collections.abc import Sequence

from protocol import Batches, need, serve

FFCV, OURS = "ffcv", "ours"
LABEL = 0


class Paths(Sequence):
    """The paths of a job, `repeat` times one after the other."""

    def __init__(self, job: dict):
        self.paths = job["paths"]
        self.count = job["num_images"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple:
        return self.paths[index % len(self.paths)], LABEL


class Decoded(Paths):
    """The same images as PIL objects."""

    def __getitem__(self, index: int) -> tuple:
        from PIL import Image

        path, label = super().__getitem__(index)
        return Image.open(path).convert("RGB"), label


class Writer:
    """The writer of either package; `job["options"]` are the arguments of its image field."""

    def __init__(self, flavour: str):
        self.flavour = flavour
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict) -> None:
        need(self.module, f": --ffcv-python=… names a Python that has {self.module}")
        self.job = job
        self.dataset = Decoded(job) if self.flavour == FFCV else Paths(job)

    @property
    def module(self) -> str:
        return "ffcv" if self.flavour == FFCV else "ffcv_ssl"

    def batches(self) -> Batches:
        """Yield an empty first batch, then write the file: all its images are one batch."""
        yield 0, []
        if self.flavour == FFCV:
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
    flavour = sys.argv[1].removeprefix("--flavour=")
    serve(
        lambda: Writer(flavour),
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
