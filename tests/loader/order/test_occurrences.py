"""Samples that occur several times in an epoch: each occurrence has its own views."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.codecs import decode
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import (
    GaussianBlur,
    MultiView,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToDevice,
)
from tests.reference.decoders import decode_with_pillow

OPTIONS = {"seed": 3, "drop_last": False, "with_ids": True, "num_workers": 2}
SIMCLR = {"image": views.simclr(16)}
REPEATED = [4, 4, 4, 9, 4, 9, 2, 11, 4]


def rendered(path, **options):
    """Pairs of sample id and views of one epoch, in order."""
    with Loader(path, **{"batch_size": 4, "pipelines": SIMCLR, **OPTIONS, **options}) as loader:
        return [
            (int(i), view)
            for batch in loader
            for i, view in zip(batch.ids, batch.image.numpy(), strict=True)
        ]


def distinct(positions):
    """Number of different views."""
    return len({view.tobytes() for _, view in positions})


def assert_same(found, expected):
    assert [i for i, _ in found] == [i for i, _ in expected]
    for (_, view), (_, wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(view, wanted)


@pytest.mark.parametrize("order", OrderOption)
def test_copies__have_views_of_their_own(raw_file, jpeg_file, order):
    """All views differ; a first occurrence has the views of an epoch without repeats."""
    for path in (raw_file, jpeg_file):
        positions = rendered(path, indices=REPEATED, order=order)
        assert Counter(i for i, _ in positions) == Counter(REPEATED)
        assert distinct(positions) == len(REPEATED)
        alone = dict(rendered(path))
        first = dict(reversed(positions))
        for sample_id, view in first.items():
            np.testing.assert_array_equal(view, alone[sample_id])


def test_a_batch_of_copies__is_a_batch_of_views(raw_file):
    """Eight copies of a sample in one batch have different views, also in the next epoch."""
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
    """The selected decoder changes no pixel."""
    expected = rendered(jpeg_file, indices=REPEATED)
    monkeypatch.setattr(decode, "selected_decoder", lambda: ("pillow", decode_with_pillow))
    assert_same(rendered(jpeg_file, indices=REPEATED), expected)


@pytest.mark.parametrize("seed", [None, 8])
def test_copies__differ_in_every_pass_and_tensor(raw_file, seed):
    """Copies differ with seeded transforms, with several passes, and in all view sizes."""
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
    """Each copy has its own parameters; those of a first occurrence are as without copies."""
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
    """A GPU gets the parameters of every position, with images copied per batch or kept there."""
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
    """If the last step has fewer samples than ranks, the other ranks get unique views."""
    positions = []
    for rank in range(8):
        positions += rendered(raw_file, indices=[3, 3, 6], batch_size=1, rank=rank, world_size=8)
    assert Counter(i for i, _ in positions) == {3: 7, 6: 1}
    assert distinct(positions) == 8


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
    """A substitute has other views at each position, for any number of threads."""
    pipeline = [*([ToDevice("cuda")] if device else []), *views.simclr(16)]
    options = {
        "on_error": "substitute",
        "pipelines": {"image": pipeline, "label": None, "vector": None, "note": None},
    }
    for indices, expected in (
        ([4, 5, 6, 0, 1, 4, 6, 4], [1, 0, 0, 0, 1, 0, 0, 0]),
        (None, [0, 1, 2, 3, 8, 9, 10, *range(7, 23)]),
    ):
        positions = rendered(broken_file, indices=indices, **options)
        assert distinct(positions) == len(positions)
        assert [i for i, _ in positions] == expected
        assert_same(rendered(broken_file, indices=indices, num_workers=0, **options), positions)


def test_substitutes__are_those_of_a_resumed_and_a_shared_epoch(broken_file):
    """An epoch that is resumed, or shared by ranks with the same step, has the same substitutes."""
    options = {
        "on_error": "substitute",
        "order": OrderOption.RANDOM,
        "indices": [*range(12), 4, 5, 6, 4],
    }
    expected = rendered(broken_file, **options)
    ranks = [
        rendered(broken_file, batch_size=2, rank=rank, world_size=2, **options) for rank in range(2)
    ]
    assert_same([position for pair in zip(*ranks, strict=True) for position in pair], expected)
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
    """A damaged sample with many copies is read once per position."""
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
    """Without repeats, occurrences are not counted."""
    monkeypatch.setattr("ffcv_ssl.loader.order.epoch_order.occurrences", None)
    for order in OrderOption:
        for indices in (None, range(9, 30), np.arange(40) % 2 == 0):
            with Loader(
                raw_file, 4, indices=indices, order=order, pipelines=SIMCLR, **OPTIONS
            ) as loader:
                assert len(list(loader)) > 0


def test_evaluation__of_copies_is_the_same(raw_file):
    """Where nothing is drawn copies look alike, as they should."""
    positions = rendered(raw_file, indices=[3] * 4, pipelines={"image": views.plain(16)})
    assert distinct(positions) == 1
    assert torch.equal(
        torch.from_numpy(positions[0][1]),
        torch.from_numpy(dict(rendered(raw_file, pipelines={"image": views.plain(16)}))[3]),
    )
