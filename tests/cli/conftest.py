"""Small datasets for the commands, and a way to run them in this process."""

from typing import NamedTuple

import pytest
from PIL import Image

from ffcv_ssl.cli.main import main
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.recipes.demo.shapes import ShapesDataset
from ffcv_ssl.writer import DatasetWriter


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run `ffcv-ssl` with some arguments in this process."""

    def run_command(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:
            status = left.code
        return Outcome(status, *capsys.readouterr())

    return run_command


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Two classes: three JPEGs of 40 x 30 and two PNGs of 24 x 36."""
    folder = tmp_path_factory.mktemp("images")
    sizes = {"cat": (40, 30, "jpg"), "dog": (24, 36, "png")}
    for (name, (width, height, suffix)), count in zip(sizes.items(), (3, 2), strict=True):
        (folder / name).mkdir()
        for index in range(count):
            image = Image.fromarray(ShapesDataset(10, seed=index, size=64)[index][0]).resize(
                (width, height)
            )
            image.save(folder / name / f"{index}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def shapes_files(tmp_path_factory):
    """Training and validation file of drawn images, 60 and 30 samples."""
    folder = tmp_path_factory.mktemp("shapes")
    for name, num_samples, seed in (("train.beton", 60, 0), ("val.beton", 30, 1)):
        shapes = ShapesDataset(num_samples, seed)
        metadata = {"class_names": shapes.class_names, "source": shapes.describe()}
        writer = DatasetWriter(
            folder / name,
            shapes.fields(RGBImageField("raw")),
            num_workers=0,
            metadata=metadata,
            progress=False,
        )
        writer.from_indexed_dataset(shapes)
    return folder / "train.beton", folder / "val.beton"
