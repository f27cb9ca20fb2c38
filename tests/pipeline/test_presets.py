"""The presets use the published parameters."""

import inspect

import numpy as np
import pytest

from ffcv_ssl import views
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.pipeline.plan import plan_images


def tables(pipeline, num_samples=4000):
    """Draw the parameter table of photos of 375 x 500 pixels."""
    return plan_images("image", {"image": pipeline}, None).draw(
        0, 0, np.arange(num_samples), np.tile(np.int32([375, 500]), (num_samples, 1))
    )


def frequencies(table, view):
    """Return how often each augmentation acts on one view; 0 if the view does not have it."""
    applied = {
        "flip": lambda: table["flip.applied"] == 1,
        "jitter": lambda: table["jitter.brightness"] != 1,
        "gray": lambda: table["gray.applied"] == 1,
        "blur": lambda: table["blur.sigma"] > 0,
        "solarize": lambda: table["solarize.threshold"] < 256,
    }
    found = {}
    for name, act in applied.items():
        columns = [column for column in table.columns if column.startswith(f"{name}.")]
        found[name] = (
            act()[:, view].mean()
            if columns and not np.isnan(table[columns[0]][:, view]).any()
            else 0
        )
    return found


EXPECTED = [
    (
        views.simclr(224),
        0,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.5, "solarize": 0},
        (0.8, 0.8, 0.8, 0.2),
    ),
    (
        views.simclr(224, strength=0.5),
        1,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.5, "solarize": 0},
        (0.4, 0.4, 0.4, 0.1),
    ),
    (
        views.byol(224),
        0,
        {"jitter": 0.8, "gray": 0.2, "blur": 1.0, "solarize": 0},
        (0.4, 0.4, 0.2, 0.1),
    ),
    (
        views.vicreg(224),
        1,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.1, "solarize": 0.2},
        (0.4, 0.4, 0.2, 0.1),
    ),
    (
        views.barlow_twins(224),
        1,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.1, "solarize": 0.2},
        (0.4, 0.4, 0.2, 0.1),
    ),
    (
        views.emp_ssl(n=3),
        2,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.1, "solarize": 0.1},
        (0.4, 0.4, 0.4, 0.2),
    ),
    (
        views.augmented(
            n=3, jitter=0.6, strengths=(0.1, 0.2, 0.3, 0.4), gray=0, blur=(0, 0, 0.7), solarize=0.3
        ),
        2,
        {"jitter": 0.6, "gray": 0, "blur": 0.7, "solarize": 0.3},
        (0.1, 0.2, 0.3, 0.4),
    ),
    (
        views.multi_crop(),
        7,
        {"jitter": 0.8, "gray": 0.2, "blur": 0.5, "solarize": 0},
        (0.8, 0.8, 0.8, 0.2),
    ),
]


@pytest.mark.parametrize(("pipeline", "view", "expected", "ranges"), EXPECTED)
def test_preset__acts_as_published(pipeline, view, expected, ranges):
    """Every augmentation acts on each view with the published probability and strength."""
    table = tables(pipeline)
    for name, probability in {"flip": 0.5, **expected}.items():
        assert abs(frequencies(table, view)[name] - probability) < 0.03, name
    for column, width in zip(("brightness", "contrast", "saturation", "hue"), ranges, strict=True):
        values = table[f"jitter.{column}"][:, view]
        center = 0 if column == "hue" else 1
        assert width * 0.97 < np.abs(values - center).max() <= width * 1.0001, column


def test_multi_crop__has_two_sizes():
    """Two views of 224 pixels at scale .14 to 1, six of 96 pixels at .05 to .14."""
    table = tables(views.multi_crop())
    share = table["crop.height"] * table["crop.width"] / (375 * 500)
    assert share[:, :2].min() > 0.13
    assert share[:, 2:].min() > 0.045
    assert share[:, 2:].max() < 0.15
    plan = plan_images("image", {"image": views.multi_crop()}, None)
    assert [(tensor.size, tensor.num_views) for tensor in plan.tensors] == [
        ((224, 224), 2),
        ((96, 96), 6),
    ]


def test_emp_ssl__takes_patches_of_sixteen_pixels():
    """Patches have the size of the released code."""
    table = tables(views.emp_ssl(n=2))
    assert (table["crop.height"] == 16).all()
    assert (table["crop.width"] == 16).all()


def test_emp_ssl__takes_a_quarter_of_large_images():
    """A patch below 1 is a fraction of the area; it is resized with a bicubic filter."""
    pipeline = views.emp_ssl(224, n=2, patch=0.25)
    assert pipeline[0].pipelines[0][0].interpolation == "bicubic"
    table = tables(pipeline)
    height, width = table["crop.height"], table["crop.width"]
    np.testing.assert_allclose(height * width / (375 * 500), 0.25, rtol=0.01)
    assert 0.74 < (width / height).min() < 0.76
    assert 1.32 < (width / height).max() < 1.34


def test_augmented__requires_one_probability_per_view():
    """A list whose length differs from the number of views is rejected; the message names both."""
    with pytest.raises(PipelineError, match=r"blur has 3 probabilities.*for n=2 views"):
        views.augmented(n=2, blur=(0.1, 0.2, 0.3))


def test_plain__takes_the_central_square():
    """The plain view changes nothing but the crop."""
    table = tables(views.plain(224), 3)
    assert table.columns == ("crop.top", "crop.left", "crop.height", "crop.width")
    assert (table["crop.height"] == 328).all()


def test_every_preset__has_a_docstring():
    """All presets have a docstring; the package names the reference of their pixels."""
    for name in views.__all__:
        assert inspect.getdoc(getattr(views, name))
    from ffcv_ssl.pipeline import presets

    assert "torchvision" in presets.__doc__


def test_multi_crop__rejects_unequal_lists():
    """Sizes, counts and scales must have the same length."""
    with pytest.raises(PipelineError, match="one entry per crop size"):
        views.multi_crop((224, 96), counts=(2,))


@pytest.mark.parametrize("call", [lambda: views.emp_ssl(20), lambda: views.emp_ssl(size=64)])
def test_emp_ssl__explains_a_missing_number_of_views(call):
    """The first argument used to be the number of views; a size without that number is rejected."""
    with pytest.raises(
        PipelineError, match=r"the first argument is the side of a view.*emp_ssl\(32, n=20\)"
    ):
        call()


def test_byol__requires_probabilities_for_three_views():
    """The message names BYOL's probabilities, and the call with probabilities works."""
    with pytest.raises(PipelineError, match=r"byol: its two views differ .* for n=3 pass both"):
        views.byol(32, n=3)
    assert len(views.byol(32, n=3, blur=0.5, solarize=(0, 0.1, 0.2))[0].pipelines) == 3


def test_render__selects_the_device_that_renders():
    """`device` alone moves finished views; with render="gpu" the move precedes them."""
    finished, rendered = (
        views.simclr(32, device="cuda"),
        views.simclr(32, device="cuda", render="gpu"),
    )
    assert [type(step).__name__ for step in finished] == ["MultiView", "ToDevice"]
    assert [type(step).__name__ for step in rendered] == ["ToDevice", "MultiView"]
    with pytest.raises(PipelineError, match="render='gpu' needs a device"):
        views.simclr(32, render="gpu")
    with pytest.raises(PipelineError, match="render must be 'cpu' or 'gpu', got 'cuda'"):
        views.simclr(32, device="cuda", render="cuda")


@pytest.mark.parametrize("name", views.__all__)
def test_signature__names_every_option(name):
    """No preset hides its parameters."""
    kinds = {
        parameter.kind for parameter in inspect.signature(getattr(views, name)).parameters.values()
    }
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
