"""The preview figure: its samples, views and crop boxes."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from ffcv_ssl import views
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.loader import Loader
from ffcv_ssl.pipeline.plan import plan_images
from ffcv_ssl.preview import preview_figure, preview_samples, view_caption
from ffcv_ssl.transforms import (
    GaussianBlur,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPatchCrop,
    RandomResizedCrop,
    RandomSolarization,
)

PATCHES = [RandomPatchCrop(8, patch=8)]  # cut out, not resized: a view is its box


def test_preview_samples__show_what_their_boxes_enclose(jpeg_file, jpeg_images):
    """Without other transforms, a view equals its crop box of the original."""
    samples = preview_samples(jpeg_file, PATCHES, num_samples=6, seed=3)
    assert len({sample.sample_id for sample in samples}) == 6
    for sample in samples:
        assert sample.label == str(sample.sample_id)
        assert sample.original.shape == (30 + sample.sample_id, 47 - sample.sample_id, 3)
        (view,), (params,) = sample.views, sample.params
        top, left = int(params["crop.top"]), int(params["crop.left"])
        assert np.array_equal(view, sample.original[top : top + 8, left : left + 8])


def test_preview_samples__are_those_of_the_loader(jpeg_file):
    """The views are those of a loader over all samples with the same seed and epoch."""
    pipeline = views.simclr(size=16)
    samples = preview_samples(jpeg_file, pipeline, num_samples=4, seed=5, epoch=2)
    with Loader(jpeg_file, batch_size=23, seed=5, pipelines={"image": pipeline}) as loader:
        loader.set_epoch(2)
        images = next(iter(loader)).image.numpy()
    for sample in samples:
        for view, rendered in enumerate(sample.views):
            assert np.array_equal(rendered, images[sample.sample_id, view].transpose(1, 2, 0))


def test_preview_samples__follow_seed_and_size_of_the_file(raw_file):
    """Another seed chooses other samples; more than the file has gives all, in file order."""
    chosen = [
        [sample.sample_id for sample in preview_samples(raw_file, PATCHES, 5, seed)]
        for seed in (0, 1)
    ]
    assert chosen[0] != chosen[1]
    assert chosen[0] == sorted(chosen[0])
    assert [sample.sample_id for sample in preview_samples(raw_file, PATCHES, 1000)] == list(
        range(40)
    )


def test_preview_figure__draws_a_box_for_every_view(raw_file):
    """Each row has the original with one box per view, then the views."""
    pipeline = views.emp_ssl(n=3, patch=9, size=18)
    figure = preview_figure(raw_file, pipeline, num_samples=2, seed=1)
    samples = preview_samples(raw_file, pipeline, num_samples=2, seed=1)
    axes = np.array(figure.axes).reshape(2, 4)
    for row, sample in zip(axes, samples, strict=True):
        boxes = [patch for patch in row[0].patches if isinstance(patch, Rectangle)]
        assert [
            (box.get_y() + 0.5, box.get_x() + 0.5, box.get_height(), box.get_width())
            for box in boxes
        ] == [
            tuple(params[f"crop.{name}"] for name in ("top", "left", "height", "width"))
            for params in sample.params
        ]
        assert np.array_equal(row[0].images[0].get_array(), sample.original)
        for ax, view in zip(row[1:], sample.views, strict=True):
            assert np.array_equal(ax.images[0].get_array(), view)


def test_preview_figure__views_of_several_sizes(raw_file, tmp_path):
    """A pipeline with views of two sizes is drawn with all of them, and the figure can be saved."""
    figure = preview_figure(raw_file, views.multi_crop((16, 8), counts=(2, 3)), num_samples=2)
    assert len(figure.axes) == 2 * (1 + 5)
    shapes = [ax.images[0].get_array().shape[0] for ax in figure.axes[1:6]]
    assert shapes == [16, 16, 8, 8, 8]
    figure.savefig(tmp_path / "views.png")
    assert (tmp_path / "views.png").stat().st_size > 1000


def test_preview_figure__without_view_axis(raw_file):
    """A pipeline without MultiView is drawn as one view."""
    assert len(preview_figure(raw_file, views.plain(16), num_samples=3).axes) == 3 * 2


def test_caption__names_what_happened():
    """The caption names only transforms that changed the view, including a second one of a kind."""
    crop, flip, jitter = RandomResizedCrop(8), RandomHorizontalFlip(), RandomColorJitter()
    view = [
        crop,
        flip,
        jitter,
        RandomGrayscale(),
        GaussianBlur(),
        RandomSolarization(),
        RandomColorJitter(),
    ]
    (group,) = plan_images("image", {"image": view}, None).tensors[0].groups
    neutral = {
        f"{name}.{parameter}": value
        for name, transform in zip(group.names, group.transforms, strict=True)
        for parameter, value in transform.neutral.items()
    }
    assert view_caption(group, neutral) == ""
    assert (
        view_caption(group, neutral | {"flip.applied": 1, "blur.sigma": 1.24}) == "flip, blur 1.2"
    )
    changed = {"jitter#2.hue": 0.1, "gray.applied": 1, "solarize.threshold": 128}
    assert view_caption(group, neutral | changed) == "gray, solarize, jitter"


@pytest.mark.parametrize(
    ("arguments", "error", "problem"),
    [
        ({"field": "imge"}, FieldNotFound, "no image field 'imge'. Image fields: image."),
        ({"field": "label"}, FieldNotFound, "no image field 'label'"),
        ({"num_samples": 0}, PipelineError, "num_samples must be >= 1"),
        (
            {"pipeline": views.plain(16, normalize=((0, 0, 0), (255, 255, 255)))},
            PipelineError,
            "leave out normalization",
        ),
    ],
)
def test_preview__refuses_what_it_cannot_draw(raw_file, arguments, error, problem):
    """Unknown fields, no samples and normalized views are errors."""
    with pytest.raises(error, match=problem):
        preview_figure(raw_file, **({"pipeline": [*PATCHES, RandomHorizontalFlip()]} | arguments))
