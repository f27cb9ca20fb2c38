"""Epochs have the same images, equally often, for every contestant, and can end early."""

from collections import Counter

import numpy as np
import pytest
import torch

from ffcv_ssl.benchmarks.images import photos
from ffcv_ssl.benchmarks.workloads import WORKLOADS, Epochs
from ffcv_ssl.errors import ConfigError

STORED, REPEATED = 3, 14
COUNT = STORED * REPEATED  # with batches of 32: 32 and 10


@pytest.fixture
def job(tmp_path):
    """One view of three photos, 14 times each."""
    images = photos(None, tmp_path, STORED)
    return WORKLOADS["crop1"].job(images, 1, Epochs(1, COUNT))


@pytest.mark.parametrize(
    ("stored", "images"), [(315, 4095), (2000, 4000), (512, 4096), (20_000, 20_000), (1, 4000)]
)
def test_epochs__repeat_the_stored_images_whole(stored, images):
    """An epoch has the smallest multiple of the stored images that reaches 4,000."""
    assert Epochs(1).num_images(stored) == images


def test_job__of_one_batch_is_refused(tmp_path):
    """An epoch of a single batch has no rate and is an error."""
    images = photos(None, tmp_path, 2)
    with pytest.raises(ConfigError, match="emp20: an epoch of 100 images is one batch of 100"):
        WORKLOADS["emp20"].job(images, 1, Epochs(1, 100))


def test_ours__repeats_the_images_and_ends_early(contestant, job):
    """Every stored image appears 14 times; a complete epoch follows one that was closed early."""
    ours = contestant("ours").Ours()
    ours.prepare(job)
    assert Counter(ours.loader.indices.tolist()) == dict.fromkeys(range(STORED), REPEATED)
    batches = ours.batches()
    assert next(batches)[0] == 32
    batches.close()
    assert [count for count, _ in ours.batches()] == [32, 10]


def test_plain_decode__decodes_the_same_images(contestant, job, monkeypatch):
    """Every stored image is decoded 14 times; the first batch is empty."""
    plain_decode = contestant("plain_decode")
    monkeypatch.setenv("FFCV_SSL_DECODER", "simplejpeg")
    decoded = []
    monkeypatch.setattr(
        plain_decode,
        "simplejpeg_decoder",
        lambda records: lambda index, jpeg: decoded.append(index),
    )
    ceiling = plain_decode.PlainDecode()
    ceiling.prepare(job)
    counts = [count for count, _ in ceiling.batches()]
    assert (counts[0], sum(counts)) == (0, COUNT)
    assert Counter(decoded) == dict.fromkeys(range(STORED), REPEATED)


def test_plain_decode__ends_early(contestant, job, monkeypatch):
    """After an early close the threads stop after their current image."""
    plain_decode = contestant("plain_decode")
    monkeypatch.setenv("FFCV_SSL_DECODER", "simplejpeg")
    monkeypatch.setattr(plain_decode, "POLL_S", 0.001)
    proceed, decoded = plain_decode.Event(), []

    def decode(index, jpeg):
        if decoded:  # the second image takes until the epoch is being closed
            proceed.wait(20)
        decoded.append(index)

    class Ending(plain_decode.Event):
        def set(self):
            super().set()
            proceed.set()

    monkeypatch.setattr(plain_decode, "simplejpeg_decoder", lambda records: decode)
    monkeypatch.setattr(plain_decode, "Event", Ending)
    ceiling = plain_decode.PlainDecode()
    ceiling.prepare(job)
    batches = ceiling.batches()
    assert [next(batches)[0], next(batches)[0]] == [0, 1]
    batches.close()
    assert len(decoded) == 2


def test_plain_decode__that_fails_is_an_error(contestant, job, monkeypatch):
    """An image that cannot be decoded ends the epoch with the decoder's error."""
    plain_decode = contestant("plain_decode")
    monkeypatch.setenv("FFCV_SSL_DECODER", "simplejpeg")

    def decode(index, jpeg):
        raise RuntimeError("no JPEG")

    monkeypatch.setattr(plain_decode, "simplejpeg_decoder", lambda records: decode)
    ceiling = plain_decode.PlainDecode()
    ceiling.prepare(job)
    with pytest.raises(RuntimeError, match="no JPEG"):
        list(ceiling.batches())


def test_data_loader__repeats_the_images_and_ends_early(contestant, job):
    """Every stored image appears 14 times, also after an epoch that was closed early."""
    dataloader = contestant("dataloader")

    class Sizes(dataloader.DataLoaderContestant):
        def make_chains(self, views):
            return iter([lambda image: torch.from_numpy(np.asarray(image)[0, 0].astype(np.int64))])

    peer = Sizes()
    peer.prepare(job | {"batch_size": 4})
    batches = peer.batches()
    assert next(batches)[0] == 4
    batches.close()
    pixels = [tuple(pixel.tolist()) for _, (views,) in peer.batches() for pixel in views]
    assert len(pixels) == COUNT
    assert sorted(Counter(pixels).values()) == [REPEATED] * STORED


def test_ffcv__gets_the_same_sample_ids(contestant, job):
    """The `indices` hold every stored id 14 times."""
    ids = contestant("ffcv_loader").sample_ids(job)
    assert ids.dtype == np.uint64
    assert Counter(ids.tolist()) == dict.fromkeys(range(STORED), REPEATED)


def test_dali__gets_the_same_images_and_ends_early(contestant):
    """The source yields every stored image 14 times in a new order and can end early."""

    class Stored(list):
        def stored(self, index):
            return np.array([index])

    source = contestant("dali_pipeline").ShuffledEpochs(Stored(range(STORED)), COUNT, 4, 1)
    epochs = [[int(image[0]) for batch in source for image in batch] for _ in range(2)]
    for each in epochs:
        assert Counter(each) == dict.fromkeys(range(STORED), REPEATED)
    assert epochs[0] != epochs[1]
    batches = iter(source)
    next(batches)
    source.is_ended = True
    with pytest.raises(StopIteration):
        next(batches)
    assert len(list(source)) == 11
