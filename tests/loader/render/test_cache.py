"""Placement of decoded images."""

import logging

import numpy as np
import pytest

from ffcv_ssl import views
from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.fields.image import MODE_JPEG, MODE_RAW
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.render import cache
from ffcv_ssl.loader.render.cache import plan_cache

SIZES = np.array([[3, 5], [7, 2], [4, 4]])
JPEGS, RAWS = np.full(3, MODE_JPEG, np.uint8), np.full(3, MODE_RAW, np.uint8)
OPTIONS = {
    "batch_size": 8,
    "num_workers": 2,
    "seed": 3,
    "drop_last": False,
    "with_ids": True,
    "order": OrderOption.RANDOM,
}


def plan(cache, modes=JPEGS, indices=(0, 1, 2), num_processes=1, available=10_000):
    return plan_cache(
        cache,
        SIZES,
        modes,
        np.array(indices),
        num_processes,
        "a.beton: field 'image'",
        lambda: available,
    )


def test_ram__has_a_place_for_every_sample_that_is_read():
    """Images are packed without gaps; samples that the loader does not read take no memory."""
    cache = plan("ram", indices=(2, 0, 2))
    assert cache.offsets.tolist() == [0, -1, 45]
    assert len(cache.memory) == 3 * (15 + 16)
    assert not cache.cached.any()


def test_os__keeps_nothing():
    """No memory is allocated."""
    cache = plan("os", available=0)
    assert len(cache.memory) == 0
    assert (cache.offsets == -1).all()


@pytest.mark.parametrize(
    ("modes", "available", "num_processes", "picked"),
    [(JPEGS, 270, 1, "ram"), (JPEGS, 269, 1, "os"), (JPEGS, 270, 2, "os"), (RAWS, 10_000, 1, "os")],
)
def test_auto__takes_half_of_what_is_free_and_says_so(
    caplog, modes, available, num_processes, picked
):
    """JPEGs of 135 bytes are kept if each process has 270 bytes free; raw images are not kept."""
    with caplog.at_level(logging.INFO, "ffcv_ssl"):
        cache = plan("auto", modes=modes, available=available, num_processes=num_processes)
    assert len(cache.memory) == (135 if picked == "ram" else 0)
    assert f"chose {picked!r}" in caplog.text


def test_ram__that_does_not_fit_is_refused():
    """The message names the needed and the available memory, and what to do."""
    with pytest.raises(PipelineError, match=r"a.beton: field 'image': 0.0 GB .* cache='os'"):
        plan("ram", available=134)


def test_available__is_the_least_of_machine_and_cgroup(tmp_path, monkeypatch):
    """The limit of a cgroup, less its usage, applies; "max" is no limit."""
    monkeypatch.setattr(cache, "CGROUP", tmp_path)
    monkeypatch.setattr(cache, "_machine_bytes", lambda: 1000)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert cache.available_bytes() == 1000
    (tmp_path / "memory.max").write_text("700\n")
    assert cache.available_bytes() == 600


@pytest.mark.parametrize("decoder", ["compiled", "python"])
def test_ram__gives_the_same_views_in_every_epoch(jpeg_file, decoder, monkeypatch):
    """Cached images have the pixels of a fresh decode, also while the cache fills."""
    if decoder == "python":
        monkeypatch.setattr("ffcv_ssl.loader.render.stored_images.pread_address", lambda: 0)
    pipelines = {"image": views.simclr(16)}
    with (
        Loader(jpeg_file, pipelines=pipelines, **OPTIONS) as plain,
        Loader(jpeg_file, pipelines=pipelines, cache="ram", **OPTIONS) as cached,
    ):
        for _ in range(3):
            for expected, batch in zip(plain, cached, strict=True):
                np.testing.assert_array_equal(batch.image, expected.image)
        (renderer,) = cached._file.plan.images
        assert renderer.decoder.images.cached.all()


def test_ram__does_not_keep_a_damaged_image(damaged_file):
    """The damaged sample is an error in every epoch."""
    with Loader(
        damaged_file, pipelines={"image": views.simclr(16)}, cache="ram", **OPTIONS
    ) as loader:
        for _ in range(2):
            with pytest.raises(SampleError, match="sample 7"):
                list(loader)
        (renderer,) = loader._file.plan.images
        assert not renderer.decoder.images.cached[7]
