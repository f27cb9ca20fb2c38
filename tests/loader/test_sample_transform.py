"""Transforms of a user's own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import (
    CenterCrop,
    GaussianBlur,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomResizedCrop,
    SampleTransform,
    ToDevice,
    ToTorchImage,
)


@dataclass(frozen=True)
class Erase(SampleTransform):
    """Paint a square of random position."""

    side: int = 3
    value: int = 255
    seed: int | None = None

    name: ClassVar[str] = "erase"
    parameters: ClassVar[tuple[str, ...]] = ("top", "left")

    def draw(self, keys, sizes, table):
        for parameter in self.parameters:
            table[parameter] = np.floor(keys.uniform(parameter) * 6)

    def apply(self, view, parameters):
        top, left = int(parameters["top"]), int(parameters["left"])
        view[top : top + self.side, left : left + self.side] = self.value


OPTIONS = {
    "batch_size": 8,
    "seed": 5,
    "drop_last": False,
    "with_params": True,
    "order": OrderOption.RANDOM,
}


def epoch(path, pipeline, **options):
    """The first epoch: images and erase parameters of all samples, by id."""
    with Loader(
        path,
        pipelines={"image": pipeline},
        with_ids=True,
        **{**OPTIONS, "num_workers": 2, **options},
    ) as loader:
        return {
            int(sample_id): (
                image.numpy(),
                {name: batch.params["image"][name][i] for name in batch.params["image"].columns},
            )
            for batch in loader
            for i, (sample_id, image) in enumerate(zip(batch.ids, batch.image, strict=True))
        }


def test_apply__changes_each_view_by_its_own_numbers(raw_file):
    """A view is the view without the transform, plus the square at the drawn position."""
    plain = epoch(raw_file, [MultiView([CenterCrop(12)], n=2)])
    erased = epoch(raw_file, [MultiView([CenterCrop(12), Erase()], n=2)])
    corners = set()
    for sample_id, (views, params) in erased.items():
        expected = plain[sample_id][0].copy()
        for view in range(2):
            top, left = int(params["erase.top"][view]), int(params["erase.left"][view])
            corners.add((top, left))
            expected[view, :, top : top + 3, left : left + 3] = 255
        np.testing.assert_array_equal(views, expected)
    assert len(corners) > 20


@pytest.mark.parametrize(
    "options",
    [{"num_workers": 0}, {"batch_size": 5}, {"cache": "ram"}, {"decode": "full"}],
    ids=str,
)
def test_views__do_not_depend_on_how_they_are_made(jpeg_file, options):
    """Threads, batch size, cache and decode change no pixel."""
    pipeline = [
        MultiView(
            [
                [RandomResizedCrop(10), Erase()],
                [RandomResizedCrop(10), RandomColorJitter(1.0), Erase(value=0)],
            ]
        )
    ]
    first, second = epoch(jpeg_file, pipeline), epoch(jpeg_file, pipeline, **options)
    for sample_id, (views, _) in first.items():
        np.testing.assert_array_equal(views, second[sample_id][0])


def test_order__is_that_of_the_pipeline(raw_file):
    """Later transforms see the square: a blur smears it, and a second square covers it."""
    plain = epoch(raw_file, [CenterCrop(12), Erase(seed=1)])
    blurred = epoch(raw_file, [CenterCrop(12), Erase(seed=1), GaussianBlur(1.0, sigma=(2.0, 2.0))])
    twice = epoch(raw_file, [CenterCrop(12), Erase(seed=1), Erase(side=2, value=0)])
    scaled = epoch(raw_file, [CenterCrop(12), Erase(seed=1), NormalizeImage(0.0, 255.0)])
    last = epoch(
        raw_file,
        [CenterCrop(12), GaussianBlur(1.0, sigma=(2.0, 2.0)), Erase(seed=1), ToTorchImage()],
    )
    for sample_id, (views, params) in plain.items():
        top, left = int(params["erase.top"][0]), int(params["erase.left"][0])
        here = np.s_[:, top : top + 3, left : left + 3]
        assert (views[here] == 255).all()
        assert not (blurred[sample_id][0][here] == 255).all()
        assert (last[sample_id][0][here] == 255).all()
        second = twice[sample_id][1]
        top, left = int(second["erase#2.top"][0]), int(second["erase#2.left"][0])
        assert (twice[sample_id][0][:, top : top + 2, left : left + 2] == 0).all()
        np.testing.assert_allclose(scaled[sample_id][0], views / np.float32(255), rtol=1e-6)


def test_gpu__is_refused(raw_file):
    """A GPU cannot run Python."""
    with pytest.raises(
        PipelineError, match="Erase is a transform in Python, which a GPU cannot run"
    ):
        epoch(raw_file, [ToDevice("cuda"), CenterCrop(12), Erase()])


def test_error__reaches_the_loop(raw_file):
    """An error in `apply` is raised in the consumer."""

    class Broken(SampleTransform):
        def apply(self, view, parameters):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        epoch(raw_file, [CenterCrop(12), Broken()])
