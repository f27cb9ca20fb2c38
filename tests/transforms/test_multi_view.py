"""Several views of one image."""

from dataclasses import replace

import pytest

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms import MultiView, RandomHorizontalFlip, RandomResizedCrop

CROP, FLIP = RandomResizedCrop(8), RandomHorizontalFlip()


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (MultiView([CROP, FLIP], n=2), ((CROP, FLIP),) * 2),
        (MultiView([[CROP, FLIP]], n=2), ((CROP, FLIP),) * 2),
        (MultiView([[CROP], [CROP, FLIP]]), ((CROP,), (CROP, FLIP))),
        (replace(MultiView([CROP], n=3)), ((CROP,),) * 3),
        (replace(MultiView([CROP], n=3), n=5), ((CROP,),) * 5),
    ],
)
def test_multi_view__has_one_pipeline_per_view(view, expected):
    """`pipelines` always holds one pipeline per view, and `dataclasses.replace` works."""
    assert view.pipelines == expected
    assert list(view) == list(expected)


def test_repr__is_short():
    """Equal views are shown once; different views are all shown."""
    assert repr(MultiView([FLIP], n=200)) == f"MultiView([{FLIP!r}], n=200)"
    assert repr(MultiView([[CROP], [FLIP]])) == f"MultiView([[{CROP!r}], [{FLIP!r}]])"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([CROP],), "or one pipeline and the number of views n"),
        (([CROP], 0), "n must be a positive integer, got n=0"),
        (([CROP], 2.0), "got n=2.0"),
        (([[CROP], [FLIP]], 2), "one pipeline with n; got 2 pipelines and n=2"),
        (([[CROP], FLIP],), "a mixture of lists and transforms"),
        ((CROP, 2), "pipelines must be a list, got RandomResizedCrop"),
    ],
)
def test_multi_view__rejects_contradictory_arguments(arguments, message):
    """The message names the given values."""
    with pytest.raises(PipelineError, match=message):
        MultiView(*arguments)
