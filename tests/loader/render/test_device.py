"""Views that a GPU renders. The GPU is `tests.reference.device`, or a real one."""

import logging

import numpy as np
import pytest
import torch

from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.reader import Reader
from ffcv_ssl.transforms import (
    GaussianBlur,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    ToDevice,
    ToTorchImage,
)
from ffcv_ssl.views import emp_ssl, multi_crop, simclr
from ffcv_ssl.writer import DatasetWriter
from tests.reference.device import ReferenceDevice
from tests.reference.images import photo_like

NORMALIZE = ([120.0, 110.0, 100.0], [60.0, 61.0, 62.0])


def chain(size):
    """Every transform, in the kernel's order."""
    blur = GaussianBlur(0.5, kernel_size=7)
    return [
        RandomResizedCrop(size),
        RandomHorizontalFlip(),
        RandomColorJitter(),
        RandomGrayscale(0.3),
        blur,
        RandomSolarization(0.3),
    ]


PIPELINES = {
    "simclr": simclr(60),
    "patches": emp_ssl(16, n=5, patch=9),
    "sizes": multi_crop((61, 20), counts=(2, 3)),
    "normalized": [MultiView(chain(24), n=2), NormalizeImage(*NORMALIZE)],
    "halves": [*chain((17, 51)), NormalizeImage(*NORMALIZE, torch.float16), ToTorchImage()],
    "passes": [
        *chain(19),
        GaussianBlur(1.0, kernel_size=3),
        RandomHorizontalFlip(),
        NormalizeImage(*NORMALIZE, torch.bfloat16),
    ],
}


def only(path, pipeline):
    """Pipelines that leave out all fields but the image: torch would bring them to a GPU."""
    return {**dict.fromkeys(Reader(path).fields), "image": pipeline}


def epoch(path, pipeline, **options):
    """All batches of one epoch."""
    options = {
        "batch_size": 5,
        "num_workers": 2,
        "seed": 3,
        "order": OrderOption.RANDOM,
        "drop_last": False,
    } | options
    with Loader(path, pipelines=only(path, pipeline), **options) as loader:
        return [batch.image for batch in loader]


def assert_equal(views, expected):
    """All tensors equal, in value, shape, dtype and layout."""
    assert len(views) == len(expected)
    for batch, other in zip(views, expected, strict=True):
        for tensor, wanted in zip(
            *(each if isinstance(each, tuple) else (each,) for each in (batch, other)), strict=True
        ):
            assert tensor.stride() == wanted.stride()
            assert tensor.dtype == wanted.dtype
            assert torch.equal(tensor, wanted)


@pytest.mark.parametrize("decoder", ["native", "simplejpeg"])
@pytest.mark.parametrize("name", PIPELINES)
def test_device__gets_what_gives_the_views_of_the_cpu(
    devices, jpeg_file, name, decoder, monkeypatch
):
    """One copy per batch, and one launch per tensor and pass, give the views of the CPU."""
    if decoder != "native":
        monkeypatch.setenv("FFCV_SSL_DECODER", decoder)
    expected = epoch(jpeg_file, PIPELINES[name])
    assert_equal(epoch(jpeg_file, [ToDevice("cuda"), *PIPELINES[name]]), expected)
    (device,) = devices
    assert device.num_copies == len(expected) == 5
    assert device.num_launches == 5 * {"sizes": 2, "passes": 3}.get(name, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"cache": "ram"},
        {"cache": "device"},
        {"cache": "auto"},
        {"decode": "full"},
        {"num_workers": 0},
        {"indices": [4, 2, 9]},
    ],
    ids=str,
)
def test_device__under_all_options(devices, jpeg_file, options):
    """Cache, decode mode, threads and selection change no pixel."""
    pipeline = PIPELINES["sizes"]
    on_device = epoch(jpeg_file, [ToDevice("cuda"), *pipeline], **options)
    assert_equal(
        on_device,
        epoch(
            jpeg_file,
            pipeline,
            **{name: value for name, value in options.items() if name != "cache"},
        ),
    )


def test_device__holds_all_images(devices, jpeg_file, monkeypatch):
    """With cache="device", the images are copied once, before the first batch."""
    monkeypatch.setattr("ffcv_ssl.loader.render.gpu.BLOCK_BYTES", 10_000)
    expected = epoch(jpeg_file, PIPELINES["simclr"], indices=range(20))
    pipelines = only(jpeg_file, [ToDevice("cuda"), *PIPELINES["simclr"]])
    options = {
        "seed": 3,
        "order": OrderOption.RANDOM,
        "drop_last": False,
        "indices": range(20),
        "cache": "device",
    }
    with Loader(jpeg_file, 5, num_workers=2, pipelines=pipelines, **options) as loader:
        (device,) = devices
        first = [batch.image for batch in loader]
        before = device.num_copies
        assert before > len(first) + 1
        monkeypatch.setattr(loader.reader, "read_into", None)
        second = [batch.image for batch in loader]
        assert device.num_copies == before + len(second)
    assert_equal(first, expected)
    assert not torch.equal(first[0], second[0])


def test_device__cache_needs_a_gpu_that_renders(jpeg_file):
    """Images on a GPU are of no use to the CPU."""
    with pytest.raises(PipelineError, match="put ToDevice"):
        Loader(jpeg_file, 2, seed=0, cache="device", pipelines={"image": [RandomResizedCrop(8)]})


def test_device__raw_images(devices, raw_file):
    """Raw images need no decoder."""
    assert_equal(
        epoch(raw_file, [ToDevice("cuda:0"), *PIPELINES["patches"]]),
        epoch(raw_file, PIPELINES["patches"]),
    )
    assert str(devices[0].device) == "cuda:0"


def test_device__with_scaled_decode(devices, jpeg_file):
    """Views that read the image at different scales each read their own part."""
    if decoder_name() != "native":
        pytest.skip("decode='fast' needs the native decoder")
    pipeline = multi_crop((9, 4), counts=(2, 3), scales=((0.5, 1.0), (0.2, 0.4)))
    options = {"decode": "fast"}
    assert_equal(
        epoch(jpeg_file, [ToDevice("cuda"), *pipeline], **options),
        epoch(jpeg_file, pipeline, **options),
    )


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_device__damaged_samples(devices, damaged_file, on_error, caplog):
    """With skipped and with substituted samples, the batches are those of the CPU."""
    caplog.set_level(logging.CRITICAL)
    options = {"on_error": on_error, "decode": "full"}
    expected = epoch(damaged_file, PIPELINES["simclr"], **options)
    for cache in ("os", "ram", "device"):
        assert_equal(
            epoch(damaged_file, [ToDevice("cuda"), *PIPELINES["simclr"]], cache=cache, **options),
            expected,
        )
        with pytest.raises(SampleError, match="sample 7, field 'image'"):
            epoch(
                damaged_file, [ToDevice("cuda"), *PIPELINES["simclr"]], cache=cache, decode="full"
            )


def test_device__substitute_of_a_substitute(devices, tmp_path, caplog):
    """If a substitute fails in the second field, nothing of it remains in the first."""
    caplog.set_level(logging.CRITICAL)
    sizes = [(20, 30), (20, 30), (20, 30), (25, 33), (20, 30), (20, 30)]
    samples = [(photo_like(*size, i), photo_like(24, 24, 10 + i)) for i, size in enumerate(sizes)]
    path = tmp_path / "two.beton"
    fields = {"a": RGBImageField("raw"), "b": RGBImageField("jpg")}
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(samples)
    data, (starts, lengths) = bytearray(path.read_bytes()), Reader(path).extents("b")
    for damaged in (1, 3):
        data[starts[damaged] : starts[damaged] + lengths[damaged]] = bytes(int(lengths[damaged]))
    path.write_bytes(data)

    def first_batch(front):
        pipelines = {name: [*front, RandomResizedCrop(8)] for name in fields}
        options = {"decode": "full", "on_error": "substitute", "with_ids": True, "num_workers": 0}
        with Loader(path, 2, seed=0, pipelines=pipelines, **options) as loader:
            return next(iter(loader))

    batch, expected = first_batch([ToDevice("cuda")]), first_batch([])
    assert batch.ids.tolist() == expected.ids.tolist() == [0, 4]
    assert torch.equal(batch.a, expected.a)
    assert torch.equal(batch.b, expected.b)


def test_device__image_and_mask_share_their_geometry(devices, tmp_path):
    """Two stored fields draw the same crops and flips; a mask keeps its two values."""
    path = tmp_path / "masks.beton"
    fields = {"image": RGBImageField("raw"), "mask": RGBImageField("raw")}
    images = [photo_like(30 + i, 41 - i, i) for i in range(6)]
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(
        [(image, np.uint8(200) * (image > 99)) for image in images]
    )
    geometry = RandomResizedCrop(12, interpolation="nearest"), RandomHorizontalFlip()
    views = {
        "image": [ToDevice("cuda"), *chain(12)],
        "mask": [ToDevice("cuda"), MultiView([*geometry], n=1)],
    }
    with Loader(path, 6, seed=2, pipelines=views, with_params=True) as there:
        batch = next(iter(there))
    with Loader(path, 6, seed=2, pipelines={"image": chain(12), "mask": [*geometry]}) as here:
        expected = next(iter(here))
    for column in ("crop.top", "crop.left", "crop.height", "crop.width", "flip.applied"):
        assert (batch.params["image"][column] == batch.params["mask"][column]).all()
    assert torch.equal(batch.image, expected.image)
    assert torch.equal(batch.mask[:, 0], expected.mask)
    assert batch.mask.unique().tolist() == [0, 200]


def test_device__says_why_a_scaled_decode_fails(devices, damaged_file):
    """With decode="fast", the message contains the decoder's reason."""
    if decoder_name() != "native":
        pytest.skip("decode='fast' needs the native decoder")
    with pytest.raises(SampleError, match=r"sample 7, field 'image': .*JPEG"):
        epoch(
            damaged_file,
            [ToDevice("cuda"), RandomResizedCrop(4, scale=(0.9, 1.0))],
            decode="fast",
            check="none",
        )


@pytest.mark.parametrize("cache", ["os", "device"])
def test_device__without_samples(devices, jpeg_file, cache):
    """An empty selection has no batch."""
    with pytest.warns(UserWarning, match="yields no batches"):
        assert (
            epoch(jpeg_file, [ToDevice("cuda"), RandomResizedCrop(8)], indices=[], cache=cache)
            == []
        )


def test_device__copies_no_more_than_the_views_read(devices, jpeg_file, monkeypatch):
    """The buffer contains the bounding box of the views of each image, and the kernels' inputs."""
    copied = []
    monkeypatch.setattr(
        ReferenceDevice,
        "copy_async",
        lambda self, host, copy=ReferenceDevice.copy_async: (
            copied.append(len(host)) or copy(self, host)
        ),
    )
    crop = [RandomResizedCrop(8, scale=(0.05, 0.1))]
    with Loader(
        jpeg_file,
        23,
        seed=1,
        num_workers=1,
        with_params=True,
        pipelines=only(jpeg_file, [ToDevice("cuda"), *crop]),
    ) as loader:
        params = next(iter(loader)).params["image"]
    boxes = params["crop.height"] * params["crop.width"]
    (size,) = copied
    assert 3 * boxes.sum() <= size <= 3 * boxes.sum() + 23 * (64 + 16 + 4 + 4) + 64


def test_device__says_what_memory_it_takes(devices, jpeg_file, caplog):
    """The first batch logs the memory of its images and views, and of the dataset."""
    caplog.set_level(logging.INFO, "ffcv_ssl")
    epoch(jpeg_file, [ToDevice("cuda"), *PIPELINES["simclr"]], cache="device")
    (line,) = [record.getMessage() for record in caplog.records if "renders" in record.getMessage()]
    views = 5 * 2 * 3 * 60 * 60 / 1e6
    assert (
        "field 'image': cuda renders the views. A batch takes 0.0 MB of images "
        f"and {views:.1f} MB of views; the dataset takes 0.000 GB." in line
    )


def test_device__refuses_what_it_cannot_render(devices, jpeg_file):
    """A view that needs too much shared memory raises an error that names the field."""
    pipeline = [
        ToDevice("cuda"),
        RandomResizedCrop(64),
        GaussianBlur(1.0, kernel_size=201, sigma=(60.0, 60.0)),
    ]
    with pytest.raises(PipelineError, match=r"field 'image': .*put ToDevice behind the transforms"):
        epoch(jpeg_file, pipeline)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            [RandomResizedCrop(8), ToDevice("cuda"), RandomHorizontalFlip()],
            "put ToDevice before all transforms",
        ),
        (
            [MultiView([[ToDevice("cuda"), RandomResizedCrop(8)], [RandomResizedCrop(8)]])],
            "for all views alike",
        ),
        ([ToDevice("mps"), RandomResizedCrop(8)], "only the CPU and CUDA devices render"),
        (
            [RandomResizedCrop(8), torch.nn.Identity(), RandomHorizontalFlip()],
            "move it before Identity",
        ),
    ],
)
def test_pipeline__with_a_device_in_the_wrong_place(jpeg_file, pipeline, message):
    """The error names the position where ToDevice is allowed."""
    with pytest.raises(PipelineError, match=message):
        Loader(jpeg_file, 2, seed=0, pipelines={"image": pipeline})


def test_pipelines__of_one_field_on_two_devices_are_refused(devices, jpeg_file):
    """The images of a field are decoded for one device."""
    pipelines = {
        "image": [ToDevice("cuda"), RandomResizedCrop(8)],
        "image2": [RandomResizedCrop(8)],
    }
    with pytest.raises(PipelineError, match="the same ToDevice"):
        Loader(jpeg_file, 2, seed=0, pipelines=pipelines, custom_field_mapper={"image2": "image"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_device__missing_is_reported(jpeg_file):
    """Without a GPU, the constructor raises an error."""
    with pytest.raises(PipelineError, match="torch finds no GPU"):
        Loader(jpeg_file, 2, seed=0, pipelines={"image": [ToDevice("cuda"), RandomResizedCrop(8)]})


def test_todevice__of_the_cpu_may_stand_anywhere(jpeg_file):
    """ToDevice("cpu") at any position changes nothing."""
    assert_equal(
        epoch(jpeg_file, [ToDevice("cpu"), *PIPELINES["simclr"]]),
        epoch(jpeg_file, PIPELINES["simclr"]),
    )


@pytest.fixture(scope="session")
def cifar_like_file(tmp_path_factory):
    """20,000 raw images of 32 x 32."""
    base = np.stack([photo_like(32, 32, seed) for seed in range(200)])
    shifted = [(np.roll(base[i % 200], i // 200, axis=1), i) for i in range(20_000)]
    path = tmp_path_factory.mktemp("cifar") / "cifar.beton"
    DatasetWriter(
        path, {"image": RGBImageField("raw"), "label": IntField()}, progress=False
    ).from_indexed_dataset(shifted)
    return path


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["os", "device"])
@pytest.mark.parametrize("size", [32, 60])
def test_gpu__renders_an_epoch_as_the_cpu_does(cifar_like_file, size, cache):
    """GPU and CPU differ by at most one gray level, in less than 0.1 % of the values."""
    pipeline, different, total = (
        [MultiView(chain(size)[:-1], n=2)],
        0,
        0,
    )  # without solarize, which may flip a value at its threshold
    options = {"batch_size": 500, "num_workers": -1, "seed": 7, "order": OrderOption.RANDOM}
    here = Loader(cifar_like_file, pipelines=only(cifar_like_file, pipeline), **options)
    there = Loader(
        cifar_like_file,
        pipelines=only(cifar_like_file, [ToDevice("cuda"), *pipeline]),
        cache=cache,
        **options,
    )
    with here, there:
        for expected, rendered in zip(here, there, strict=True):
            distance = (rendered.image.cpu().to(torch.int16) - expected.image.to(torch.int16)).abs()
            assert distance.max() <= 1
            different, total = different + int((distance > 0).sum()), total + distance.numel()
    assert total == 20_000 * 2 * 3 * size**2
    assert different < 1e-3 * total


@pytest.mark.gpu
@pytest.mark.parametrize("name", PIPELINES)
def test_gpu__renders_every_pipeline(jpeg_file, name):
    """On a stream of the user, less than 0.1 % of the values differ, for all dtypes and layouts."""
    expected = epoch(jpeg_file, PIPELINES[name])
    with torch.cuda.stream(torch.cuda.Stream()):
        rendered = epoch(jpeg_file, [ToDevice("cuda"), *PIPELINES[name]])
        pairs = [
            (tensor.cpu(), other)
            for views, wanted in zip(rendered, expected, strict=True)
            for tensor, other in zip(
                *(each if isinstance(each, tuple) else (each,) for each in (views, wanted)),
                strict=True,
            )
        ]
    assert all(
        tensor.shape == other.shape and tensor.dtype == other.dtype for tensor, other in pairs
    )
    different = sum(int((tensor != other).sum()) for tensor, other in pairs)
    assert different < 1e-3 * sum(tensor.numel() for tensor, _ in pairs)
