"""The same sample several times in an epoch: every place has views of its own."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import (
    GaussianBlur,
    MultiView,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToDevice,
)

OPTIONS = {"seed": 3, "drop_last": False, "with_ids": True, "num_workers": 2}
SIMCLR = {"image": views.simclr(16)}
REPEATED = [4, 4, 4, 9, 4, 9, 2, 11, 4]


def rendered(path, **options):
    """Pairs of sample id and views of one epoch, place by place."""
    with Loader(path, **{"batch_size": 4, "pipelines": SIMCLR, **OPTIONS, **options}) as loader:
        return [
            (int(i), view)
            for batch in loader
            for i, view in zip(batch.ids, batch.image.numpy(), strict=True)
        ]


def distinct(places):
    """Number of different views."""
    return len({view.tobytes() for _, view in places})


def assert_same(found, expected):
    assert [i for i, _ in found] == [i for i, _ in expected]
    for (_, view), (_, wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(view, wanted)


@pytest.mark.parametrize("order", OrderOption)
def test_copies__have_views_of_their_own(raw_file, jpeg_file, order):
    """No two places of an epoch show the same views, and the first place of a sample shows those it has without the others."""
    for path in (raw_file, jpeg_file):
        places = rendered(path, indices=REPEATED, order=order)
        assert Counter(i for i, _ in places) == Counter(REPEATED)
        assert distinct(places) == len(REPEATED)
        alone = dict(rendered(path))
        first = dict(reversed(places))
        for sample_id, view in first.items():
            np.testing.assert_array_equal(view, alone[sample_id])


def test_a_batch_of_copies__is_a_batch_of_views(raw_file):
    """Eight copies of one sample in one batch are eight pairs of views, and other ones in the next epoch."""
    with Loader(
        raw_file, 8, indices=[3] * 8, order=OrderOption.RANDOM, pipelines=SIMCLR, **OPTIONS
    ) as loader:
        pairs = {view.numpy().tobytes() for _ in range(2) for view in next(iter(loader)).image}
    assert len(pairs) == 16


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 0},
        {"batch_size": 1},
        {"batch_size": 64},
        {"batches_ahead": 1},
        {"cache": "ram"},
        {"decode": "full"},
    ],
    ids=str,
)
@pytest.mark.parametrize("order", OrderOption)
def test_copies__do_not_depend_on_how_they_are_made(jpeg_file, options, order):
    """Threads, batch size, batches ahead, cache and decode planning change no pixel."""
    expected = rendered(jpeg_file, indices=REPEATED, order=order)
    assert_same(rendered(jpeg_file, indices=REPEATED, order=order, **options), expected)


def test_copies__do_not_depend_on_the_decoder(jpeg_file, monkeypatch):
    """Nor does the rung of the ladder that decodes."""
    expected = rendered(jpeg_file, indices=REPEATED)
    monkeypatch.setenv("FFCV_SSL_DECODER", "pillow")
    assert_same(rendered(jpeg_file, indices=REPEATED), expected)


@pytest.mark.parametrize("seed", [None, 8])
def test_copies__differ_in_every_pass_and_tensor(raw_file, seed):
    """Transforms with a seed of their own, transforms in several passes, and views of several sizes differ between copies."""
    twice = [
        RandomResizedCrop(16, seed=seed),
        GaussianBlur(1.0, seed=seed),
        RandomHorizontalFlip(seed=seed),
    ]
    assert (
        distinct(rendered(raw_file, indices=[3] * 8, pipelines={"image": [MultiView(twice, n=2)]}))
        == 8
    )
    pipelines = {"image": views.multi_crop((20, 9), counts=(1, 2))}
    with Loader(raw_file, 8, indices=[3] * 8, pipelines=pipelines, **OPTIONS) as loader:
        for tensor in next(iter(loader)).image:
            assert len({view.numpy().tobytes() for view in tensor}) == 8


def test_mapped_pipelines__differ_between_copies_and_share_their_decode(raw_file):
    """A second pipeline over the stored field draws anew for every copy too."""
    crop = [RandomResizedCrop(16)]
    options = {
        **OPTIONS,
        "pipelines": {"image": crop, "other": crop},
        "custom_field_mapper": {"other": "image"},
    }
    with Loader(raw_file, 4, indices=[3] * 4, **options) as loader:
        batch = next(iter(loader))
    assert (
        len({view.numpy().tobytes() for images in (batch.image, batch["other"]) for view in images})
        == 8
    )


def test_params__are_those_of_each_place(raw_file):
    """The tables of copies differ as their views do, and the boxes and flips in them are what was rendered."""
    with Loader(
        raw_file, 6, indices=[3, 5, 3, 3, 5, 7], pipelines=SIMCLR, with_params=True, **OPTIONS
    ) as loader:
        batch = next(iter(loader))
    values = batch.params["image"].values
    assert len({row.tobytes() for row in values}) == 6
    with Loader(
        raw_file, 3, indices=[3, 5, 7], pipelines=SIMCLR, with_params=True, **OPTIONS
    ) as loader:
        np.testing.assert_array_equal(next(iter(loader)).params["image"].values, values[[0, 1, 5]])


def test_copies__are_rendered_alike_on_a_gpu(devices, jpeg_file):
    """A GPU that renders gets the parameters of every place, with images sent per batch or kept there."""
    fields = {"label": None, "vector": None, "note": None}
    expected = rendered(
        jpeg_file, indices=REPEATED, pipelines={**fields, "image": views.simclr(16)}
    )
    on_device = {**fields, "image": [ToDevice("cuda"), *views.simclr(16)]}
    for cache in ("os", "device"):
        assert_same(
            rendered(jpeg_file, indices=REPEATED, pipelines=on_device, cache=cache), expected
        )


def test_ranks_left_over__fill_the_step_with_other_views(raw_file):
    """Where a last step has fewer samples than ranks, each rank that is left over gets views that no other place has."""
    places = []
    for rank in range(8):
        places += rendered(raw_file, indices=[3, 3, 6], batch_size=1, rank=rank, world_size=8)
    assert Counter(i for i, _ in places) == {3: 7, 6: 1}
    assert distinct(places) == 8


@pytest.fixture
def broken_file(tmp_path, jpeg_file, jpeg_images):
    """`jpeg_file` with samples 4, 5 and 6 damaged."""
    data = bytearray(Path(jpeg_file).read_bytes())
    for number in (4, 5, 6):
        start = data.find(jpeg_images[number]) + len(jpeg_images[number]) // 2
        data[start : start + 40] = b"\xff\xd9" * 20
    path = tmp_path / "broken.beton"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("device", [False, True])
def test_substitutes__show_views_that_come_nowhere_else(devices, broken_file, device):
    """Several positions that one sample fills, and its own place, show different views: the same for any number of threads."""
    pipeline = [*([ToDevice("cuda")] if device else []), *views.simclr(16)]
    options = {
        "on_error": "substitute",
        "pipelines": {"image": pipeline, "label": None, "vector": None, "note": None},
    }
    for indices, expected in (
        ([4, 5, 6, 0, 1, 4, 6, 4], [1, 0, 0, 0, 1, 0, 0, 0]),
        (None, [0, 1, 2, 3, 8, 9, 10, *range(7, 23)]),
    ):
        places = rendered(broken_file, indices=indices, **options)
        assert distinct(places) == len(places)
        assert [i for i, _ in places] == expected
        assert_same(rendered(broken_file, indices=indices, num_workers=0, **options), places)


def test_substitutes__are_those_of_a_resumed_and_a_shared_epoch(broken_file):
    """Resumed behind any batch, or shared by ranks with the same step, an epoch shows the same substitutes."""
    options = {
        "on_error": "substitute",
        "order": OrderOption.RANDOM,
        "indices": [*range(12), 4, 5, 6, 4],
    }
    expected = rendered(broken_file, **options)
    ranks = [
        rendered(broken_file, batch_size=2, rank=rank, world_size=2, **options) for rank in range(2)
    ]
    assert_same([place for pair in zip(*ranks, strict=True) for place in pair], expected)
    loader_options = {"pipelines": SIMCLR, **OPTIONS, **options}
    with Loader(broken_file, 4, **loader_options) as loader:
        batches = iter(loader)
        for taken in (4, 8, 12):
            next(batches)
            with Loader(broken_file, 4, **loader_options) as resumed:
                resumed.load_state_dict(loader.state_dict())
                rest = [
                    (int(i), view)
                    for batch in resumed
                    for i, view in zip(batch.ids, batch.image.numpy(), strict=True)
                ]
            assert_same(rest, expected[taken:])


def test_substitutes__try_no_sample_twice(broken_file):
    """A damaged sample that fills most of the epoch is read once for each of its positions, not once for each of its copies."""
    with Loader(
        broken_file,
        4,
        indices=[4] * 30 + [0, 4],
        pipelines=SIMCLR,
        on_error="substitute",
        **OPTIONS,
    ) as loader:
        ids = [int(i) for batch in loader for i in batch.ids]
        assert ids == [0] * 32
        assert len(loader.failures) == 31


def test_unique_samples__cost_nothing(raw_file, monkeypatch):
    """Without repeats the places are not counted, and the keys take in no word."""
    monkeypatch.setattr("ffcv_ssl.loader.order.epoch_order.occurrences", None)
    for order in OrderOption:
        for indices in (None, range(9, 30), np.arange(40) % 2 == 0):
            with Loader(
                raw_file, 4, indices=indices, order=order, pipelines=SIMCLR, **OPTIONS
            ) as loader:
                assert len(list(loader)) > 0


def test_evaluation__of_copies_is_the_same(raw_file):
    """Where nothing is drawn copies look alike, as they should."""
    places = rendered(raw_file, indices=[3] * 4, pipelines={"image": views.plain(16)})
    assert distinct(places) == 1
    assert torch.equal(
        torch.from_numpy(places[0][1]),
        torch.from_numpy(dict(rendered(raw_file, pipelines={"image": views.plain(16)}))[3]),
    )
