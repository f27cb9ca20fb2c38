"""The loader's contract with its user."""

import gc
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.codecs.decode import decode_jpeg
from ffcv_ssl.errors import FfcvSslError, FieldNotFound, LoaderClosed, PipelineError, SampleError
from ffcv_ssl.fields.decoders import (
    IntDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffcv_ssl.kernels.rows import NUM_COLUMNS
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import (
    CenterCrop,
    ModuleWrapper,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Squeeze,
    ToDevice,
    ToTensor,
    ToTorchImage,
)
from tests.reference.kernel import IDENTITY, render_rows

SIMCLR = {"image": views.simclr(16)}


def epoch(path, **options):
    """All batches of one epoch, with ids."""
    options = {
        "batch_size": 8,
        "num_workers": 2,
        "seed": 3,
        "drop_last": False,
        "with_ids": True,
        "pipelines": SIMCLR,
        **options,
    }
    with Loader(path, **options) as loader:
        return list(loader)


def by_sample(batches):
    """Sample id → its views."""
    return {
        int(i): image
        for batch in batches
        for i, image in zip(batch.ids, batch.image.numpy(), strict=True)
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for sample_id in a:
        np.testing.assert_array_equal(a[sample_id], b[sample_id])


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 0},
        {"num_workers": 1},
        {"num_workers": 8},
        {"batch_size": 7},
        {"batch_size": 64},
        {"batches_ahead": 1},
    ],
)
@pytest.mark.parametrize("order", OrderOption)
def test_views__do_not_depend_on_how_they_are_made(jpeg_file, raw_file, options, order):
    """Threads, batch size, order and batches ahead change no pixel of any sample."""
    for path in (jpeg_file, raw_file):
        assert_same(by_sample(epoch(path)), by_sample(epoch(path, order=order, **options)))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks__share_the_epoch(raw_file, world_size, drop_last):
    """Ranks take the same number of steps and together render the samples of one rank.

    Ranks that are left over in a last, short step fill it with another view of its first sample.
    """
    options = {"batch_size": 3, "order": OrderOption.RANDOM, "drop_last": drop_last}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 50 ranks with drop_last have no batch
        ranks = [
            epoch(raw_file, rank=rank, world_size=world_size, **options)
            for rank in range(world_size)
        ]
    assert len({len(batches) for batches in ranks}) == 1
    alone = by_sample(epoch(raw_file, order=OrderOption.RANDOM))
    together = {}
    for batches in ranks:
        for sample_id, image in by_sample(batches).items():
            if sample_id in together:
                assert not np.array_equal(image, together[sample_id])
            together.setdefault(sample_id, image)
    assert_same({i: alone[i] for i in together}, together)
    kept = 40 // (3 * world_size) * 3 * world_size if drop_last else 40
    assert len(together) == kept


def test_epochs__differ_and_repeat(raw_file):
    """Epochs and views of one sample differ; a second loader with the same seed repeats them."""
    first, second = (
        Loader(raw_file, 8, seed=1, pipelines=SIMCLR, order=OrderOption.RANDOM) for _ in range(2)
    )
    with first, second:
        epochs = [[batch.image for batch in first] for _ in range(2)]
        again = [[batch.image for batch in second] for _ in range(2)]
    assert all(
        torch.equal(a, b)
        for x, y in zip(epochs, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert not torch.equal(epochs[0][0], epochs[1][0])
    assert not torch.equal(epochs[0][0][:, 0], epochs[0][0][:, 1])


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
@pytest.mark.parametrize(
    "other", [{}, {"num_workers": 0}, {"batch_size": 4}, {"batch_size": 4, "world_size": 2}]
)
def test_state__resumes_in_the_middle_of_an_epoch(raw_file, taken, other):
    """A resumed run continues like an uninterrupted one, also with other threads or batch sizes."""
    options = {
        "batch_size": 8,
        "seed": 1,
        "order": OrderOption.RANDOM,
        "pipelines": SIMCLR,
        "with_ids": True,
    }
    with Loader(raw_file, **options) as loader:
        unbroken = [list(loader) for _ in range(2)]
        loader.set_epoch(0)
        batches = iter(loader)
        for _ in range(taken):
            next(batches)
        state = loader.state_dict()
    rest = [unbroken[0][:taken], []] if taken < 5 else [unbroken[0], []]
    for rank in range(other.get("world_size", 1)):
        with Loader(raw_file, **{**options, **other, "rank": rank}) as resumed:
            resumed.load_state_dict(state)
            for number in (0, 1) if taken < 5 else (1,):
                rest[number] = rest[number] + list(resumed)
    for expected, got in zip(unbroken, rest, strict=True):
        assert_same(by_sample(expected), by_sample(got))


def test_state__of_something_else_is_refused(raw_file, jpeg_file):
    """A state from another file, selection or seed raises and names the difference."""
    with Loader(raw_file, 8, seed=1, pipelines=SIMCLR) as loader:
        state = loader.state_dict()
    for path, options, word in (
        (jpeg_file, {"seed": 1}, "file"),
        (raw_file, {"seed": 2}, "seed"),
        (raw_file, {"seed": 1, "indices": range(20)}, "selection"),
    ):
        with (
            Loader(path, 8, pipelines=SIMCLR, **options) as other,
            pytest.raises(FfcvSslError, match=word),
        ):
            other.load_state_dict(state)


def test_batches__belong_to_the_user(raw_file):
    """Batches in a list stay valid; their memory is reused only after they are released."""
    with Loader(raw_file, 4, seed=1, pipelines=SIMCLR, num_workers=2) as loader:
        kept = list(loader)
        copies = [batch.image.clone() for batch in kept]
        loader.set_epoch(0)
        for index, batch in enumerate(loader):
            assert torch.equal(batch.image, copies[index])
        assert all(torch.equal(batch.image, copy) for batch, copy in zip(kept, copies, strict=True))
        addresses = {batch.image.data_ptr() for batch in kept}
        del kept, batch
        gc.collect()
        assert {batch.image.data_ptr() for batch in loader} & addresses


def test_damaged_image__is_an_error_and_never_another_image(damaged_file):
    """The loop gets the error in every epoch; the other samples can still be read."""
    pipelines = {"image": [Resize(16)]}
    with Loader(
        damaged_file, 4, seed=0, pipelines=pipelines, num_workers=2, drop_last=False
    ) as loader:
        for _ in range(2):
            with pytest.raises(
                SampleError, match=r"damaged.beton: sample 7, field 'image'"
            ) as caught:
                list(loader)
            assert (caught.value.sample_id, caught.value.field) == (7, "image")
    others = [i for i in range(23) if i != 7]
    assert len(by_sample(epoch(damaged_file, indices=others))) == 22


def test_damaged_image__can_be_skipped(damaged_file):
    """With "skip", all fields of the batch are shorter, and no other sample changes."""
    options = {
        "batch_size": 4,
        "seed": 0,
        "pipelines": SIMCLR,
        "drop_last": False,
        "with_ids": True,
        "with_params": True,
    }
    with Loader(damaged_file, on_error="skip", **options) as loader:
        batches = list(loader)
        assert [failure.sample_id for failure in loader.failures] == [7]
    assert [len(batch.label) for batch in batches] == [4, 3, 4, 4, 4, 3]
    for batch in batches:
        assert (
            len(batch.image)
            == len(batch.label)
            == len(batch.ids)
            == len(batch.params["image"].values)
        )
        np.testing.assert_array_equal(batch.label.numpy(), batch.ids)
    assert_same(
        by_sample(batches),
        by_sample(epoch(damaged_file, indices=[i for i in range(23) if i != 7], seed=0)),
    )


def test_damaged_image__can_be_substituted(damaged_file):
    """With "substitute" the next sample of the order stands in, with its label and other views."""
    with Loader(
        damaged_file,
        4,
        seed=0,
        pipelines=SIMCLR,
        drop_last=False,
        with_ids=True,
        on_error="substitute",
    ) as loader:
        batches = list(loader)
        assert [failure.sample_id for failure in loader.failures] == [7]
    assert [int(i) for batch in batches for i in batch.ids] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        11,
        *range(8, 23),
    ]
    assert batches[1].label.tolist() == [4, 5, 6, 11]
    assert not torch.equal(batches[1].image[3], batches[2].image[3])


def test_leaving_early__leaks_no_thread_and_stops_the_work(raw_file):
    """Loops that break after one batch start no more threads; closing ends the threads."""
    before = threading.active_count()
    loader = Loader(raw_file, 4, seed=0, pipelines=SIMCLR, num_workers=2)
    for _ in range(100):
        for _ in loader:
            break
    assert threading.active_count() == before + 2
    iterator = iter(loader)
    loader.close()
    assert threading.active_count() == before
    with pytest.raises(LoaderClosed):
        list(iterator)
    with pytest.raises(LoaderClosed):
        iter(loader)


def test_close__of_an_epoch_frees_the_thread_that_waits_for_it(raw_file):
    """A waiting consumer gets LoaderClosed when another thread closes the iterator."""
    started, release = threading.Event(), threading.Event()

    class Slow(Resize):
        def boxes(self, keys, heights, widths):
            started.set()
            release.wait(20)
            return super().boxes(keys, heights, widths)

    with Loader(raw_file, 4, num_workers=1, pipelines={"image": [Slow(8)]}) as loader:
        batches = iter(loader)
        caught = []

        def consume():
            try:
                next(batches)
            except LoaderClosed as error:
                caught.append(error)

        consumer = threading.Thread(target=consume)
        consumer.start()
        assert started.wait(20)
        batches.close()
        consumer.join(20)
        assert caught
        release.set()


def test_failures__hold_no_memory(damaged_file):
    """The listed errors keep no frame alive, and so no batch."""
    with Loader(damaged_file, 4, seed=0, pipelines=SIMCLR, on_error="skip") as loader:
        list(loader)
        failure = loader.failures[0]
    assert failure.__traceback__ is failure.__cause__ is failure.__context__ is None


def test_batch_of_damaged_samples_alone__is_passed_over(damaged_file):
    """With "skip", no batch is empty."""
    with Loader(
        damaged_file, 1, seed=0, pipelines=SIMCLR, on_error="skip", with_ids=True
    ) as loader:
        assert [len(batch.ids) for batch in loader] == [1] * 22


def test_pickled_loader__reads_the_same(raw_file):
    """A copy of a loader opens the file again and renders the same views."""
    with (
        Loader(raw_file, 8, seed=None, pipelines=SIMCLR, order=OrderOption.RANDOM) as loader,
        pickle.loads(pickle.dumps(loader)) as copy,
    ):
        assert all(torch.equal(a.image, b.image) for a, b in zip(loader, copy, strict=True))


def test_resume__with_less_left_than_a_batch_goes_on_to_the_next_epoch(raw_file):
    """A larger batch size may leave nothing of a resumed epoch; the state then moves on."""
    with Loader(raw_file, 8, seed=1, pipelines=SIMCLR) as loader:
        batches = iter(loader)
        for _ in range(4):
            next(batches)
        state = loader.state_dict()
    with Loader(raw_file, 32, seed=1, pipelines=SIMCLR) as loader:
        loader.load_state_dict(state)
        loader.set_epoch(loader.epoch)  # as trainers do before every epoch; the position stays
        assert list(loader) == []
        assert loader.state_dict()["epoch"] == 1
        assert len(list(loader)) == 1


def test_abandoned_loader__ends_its_threads(raw_file):
    """A loader that nobody closes takes its threads with it; one inside a running loop lives on."""
    before = threading.active_count()
    count = sum(1 for _ in Loader(raw_file, 4, seed=0, pipelines=SIMCLR, num_workers=2))
    assert count == 10
    gc.collect()
    assert threading.active_count() == before


def test_global_thread_counts__stay_as_they_are(raw_file):
    """Neither building nor running a loader touches torch's or Numba's number of threads."""
    import numba

    before = torch.get_num_threads(), numba.get_num_threads()
    epoch(raw_file)
    assert (torch.get_num_threads(), numba.get_num_threads()) == before


def test_shapes__without_multi_view_have_no_view_axis(raw_file):
    """(B, 3, H, W) without MultiView, (B, V, 3, H, W) with it; several sizes give a tuple."""
    assert epoch(raw_file, pipelines={"image": views.plain(16, ratio=1.0)})[0].image.shape == (
        8,
        3,
        16,
        16,
    )
    assert epoch(raw_file, pipelines={"image": [MultiView([RandomResizedCrop(16)], n=1)]})[
        0
    ].image.shape == (8, 1, 3, 16, 16)
    assert epoch(raw_file, pipelines={"image": views.emp_ssl((12, 14), n=5, patch=8)})[
        0
    ].image.shape == (8, 5, 3, 12, 14)
    large, small = epoch(raw_file, pipelines={"image": views.multi_crop((20, 9), counts=(2, 3))})[
        0
    ].image
    assert (large.shape, small.shape) == ((8, 2, 3, 20, 20), (8, 3, 3, 9, 9))


def test_default_pipeline__gives_the_stored_values(raw_file, raw_images, jpeg_file):
    """Fields without a pipeline are decoded: arrays are stacked, JSON becomes a list."""
    with Loader(raw_file, 40) as loader:
        image, label, half = next(iter(loader))
    np.testing.assert_array_equal(image.permute(0, 2, 3, 1).numpy(), np.stack(raw_images))
    np.testing.assert_array_equal(label.numpy(), np.arange(40))
    np.testing.assert_array_equal(half.numpy(), np.arange(40) / 2)
    with Loader(jpeg_file, 4, pipelines={"image": None}) as loader:
        batch = next(iter(loader))
    assert batch._fields == ("label", "vector", "note")
    np.testing.assert_array_equal(
        batch.vector.numpy(), np.arange(3, dtype="f4")[None] + np.arange(4)[:, None]
    )
    assert batch.note == [{"i": i} for i in range(4)]
    with pytest.raises(PipelineError, match="differ in size"):
        Loader(jpeg_file, 4)


def test_jpeg_views__are_those_of_the_full_decode(jpeg_file, jpeg_images):
    """From the decoded image and `params`, the kernel renders the same views again."""
    with Loader(jpeg_file, 8, seed=5, pipelines=SIMCLR, with_params=True, with_ids=True) as loader:
        for batch in loader:
            table = batch.params["image"]
            rows = loader._file.plan.images[0].plan.tensors[0].rows(table)
            assert rows.shape == (8, 2, 1, NUM_COLUMNS)
            for index, sample_id in enumerate(batch.ids):
                expected = render_rows(
                    decode_jpeg(jpeg_images[sample_id]), list(rows[index, :, 0]), (16, 16), IDENTITY
                )
                np.testing.assert_array_equal(batch.image[index].numpy(), expected)
            assert set(np.unique(table["flip.applied"])) <= {0.0, 1.0}


def test_ffcv_spelling__works(raw_file):
    """FFCV's decoders, label pipeline and mapper work as in FFCV."""
    crop = RandomResizedCropRGBImageDecoder((16, 16), scale=(0.5, 1.0))
    pipelines = {
        "image": [crop, RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
        "image2": [crop, ToTensor(), ToTorchImage(channels_last=False)],
        "label": [IntDecoder(), ToTensor()],
        "half": [ToTensor(), Squeeze()],
    }
    batch = epoch(raw_file, pipelines=pipelines, custom_field_mapper={"image2": "image"})[0]
    assert batch._fields == ("image", "image2", "label", "half")
    assert batch.label.shape == (8, 1)
    assert batch.half.shape == (8,)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.image2.is_contiguous()
    assert not torch.equal(
        batch.image, batch.image2
    )  # the mapped field has a view number of its own
    assert torch.equal(batch["image"], batch[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [True, False])
def test_normalize__maps_the_uint8_view(raw_file, dtype, channels_last):
    """Normalization maps the uint8 pixels in float64, before or after the device stage."""
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    normalize = NormalizeImage(mean, std, dtype)
    crop = [RandomResizedCrop(16), ToTorchImage(channels_last)]
    plain = epoch(raw_file, pipelines={"image": crop})
    fused = epoch(raw_file, pipelines={"image": [*crop, normalize]})
    staged = epoch(raw_file, pipelines={"image": [*crop, ToDevice("cpu"), normalize]})
    for a, b, c in zip(plain, fused, staged, strict=True):
        shaped = [
            torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std)
        ]
        expected = ((a.image.double() - shaped[0]) / shaped[1]).to(normalize.type)
        assert torch.equal(b.image, expected)
        assert torch.equal(c.image, expected)
        assert b.image.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


def test_transforms_out_of_order__are_rendered_in_passes(raw_file, raw_images):
    """Grayscale, jitter and a second jitter act in the user's order on rounded views."""
    first, second = (
        RandomColorJitter(1.0, (1.5, 1.5), (1, 1), (1, 1), 0),
        RandomColorJitter(1.0, (0.5, 0.5), (1, 1), (1, 1), 0),
    )
    pipelines = {"image": [SimpleRGBImageDecoder(), RandomGrayscale(1.0), first, second]}
    with Loader(raw_file, 40, pipelines=pipelines, with_params=True) as loader:
        batch = next(iter(loader))
    images = np.stack(raw_images).astype(float)
    gray = np.floor(images @ (np.array([19595, 38470, 7471]) / 65536) + 0.5)
    once = np.floor(np.clip(gray * 1.5, 0, 255) + 0.5)
    expected = np.floor(once * 0.5 + 0.5)
    for channel in range(3):
        np.testing.assert_array_equal(batch.image[:, channel].numpy(), expected)
    assert "jitter#2.brightness" in batch.params["image"].columns


def test_user_stages__run_on_the_whole_batch(raw_file):
    """A module or callable after the transforms gets the whole batch; its errors reach the loop."""
    pooled = epoch(
        raw_file,
        pipelines={
            "image": [
                CenterCrop(16, ratio=1.0),
                ToTensor(),
                NormalizeImage(128, 64),
                ModuleWrapper(torch.nn.AvgPool2d(2)),
                lambda x: x + 1,
            ]
        },
    )
    assert pooled[0].image.shape == (8, 3, 8, 8)

    def fail(images):
        raise ZeroDivisionError("by the user")

    with Loader(raw_file, 8, pipelines={"image": [CenterCrop(16), fail]}) as loader:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="by the user") as caught:
                next(iter(loader))
            if hasattr(caught.value, "__notes__"):
                assert "field 'image', stage" in caught.value.__notes__[0]

    def exhausted(images):
        raise StopIteration

    with (
        Loader(raw_file, 8, pipelines={"image": [CenterCrop(16), exhausted]}) as loader,
        pytest.raises(PipelineError, match="StopIteration"),
    ):
        list(loader)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([5, 3, 9], [5, 3, 9]),
        ((1, 1, 2), [1, 1, 2]),
        (np.array([7, 8], np.uint8), [7, 8]),
        (torch.tensor([30, 2]), [30, 2]),
        (np.arange(40) % 10 == 3, [3, 13, 23, 33]),
        (range(36, 40), [36, 37, 38, 39]),
    ],
)
def test_indices__select_samples_in_their_order(raw_file, indices, expected):
    """Lists, tuples, arrays, tensors and masks select; sequential order is theirs."""
    batches = epoch(raw_file, indices=indices)
    assert [int(label) for batch in batches for label in batch.label] == expected


@pytest.mark.parametrize("indices", [[0, 10**6], [-1], [0.5], np.ones(3, bool), [[1, 2]]])
def test_bad_indices__are_refused(raw_file, indices):
    """Indices out of range, of a wrong type or of a wrong shape raise an error with the file."""
    with pytest.raises(PipelineError, match=r"raw\.beton"):
        Loader(raw_file, 8, indices=indices)


def test_filter__keeps_sample_ids(raw_file):
    """A loader filtered from a selection reads the matching samples, not their positions."""
    with Loader(
        raw_file, 4, indices=range(20, 40), seed=0, pipelines=SIMCLR, drop_last=False, with_ids=True
    ) as loader:
        chosen = loader.filter("label", lambda labels: labels >= 33)
        with chosen:
            assert [int(i) for batch in chosen for i in batch.label] == list(range(33, 40))
        assert_same(
            {i: v for i, v in by_sample(list(loader)).items() if i >= 33},
            by_sample(epoch(raw_file, seed=0, indices=range(33, 40))),
        )
        with pytest.raises(PipelineError, match="scalar"):
            loader.filter("image", lambda images: images)
        with pytest.raises(PipelineError, match="one bool per value"):
            loader.filter("label", lambda labels: labels)


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "count"),
    [(1, True, 40), (39, False, 2), (39, True, 1), (40, True, 1), (64, False, 1)],
)
def test_length__is_the_number_of_batches(raw_file, batch_size, drop_last, count):
    """`len` and the loop agree, for batches of one sample and sets smaller than a batch."""
    with Loader(raw_file, batch_size, seed=0, pipelines=SIMCLR, drop_last=drop_last) as loader:
        assert len(loader) == len(list(loader)) == count


def test_no_batch__is_warned_about(raw_file):
    """Fewer samples than a batch with drop_last, and an empty selection, warn and yield nothing."""
    for indices in (range(7), []):
        with pytest.warns(UserWarning, match="yields no batches"):
            loader = Loader(raw_file, 8, indices=indices, pipelines=SIMCLR)
        with loader:
            assert list(loader) == []


def test_one_pipeline_in_two_loaders__serves_both(raw_file, jpeg_file):
    """Transforms have no state: interleaved loaders can share a list of them."""
    pipelines = {"image": views.simclr(16)}
    alone = [
        by_sample(epoch(path, pipelines={"image": views.simclr(16)}))
        for path in (raw_file, jpeg_file)
    ]
    with (
        Loader(raw_file, 8, seed=3, pipelines=pipelines, with_ids=True, drop_last=False) as a,
        Loader(jpeg_file, 8, seed=3, pipelines=pipelines, with_ids=True, drop_last=False) as b,
    ):
        first, second = iter(a), iter(b)
        mixed = [(next(first), next(second)) for _ in range(3)]
        rest = list(first), list(second)
    assert_same(alone[0], by_sample([pair[0] for pair in mixed] + rest[0]))
    assert_same(alone[1], by_sample([pair[1] for pair in mixed] + rest[1]))


BAD_ARGUMENTS = [
    ({"batch_size": 0}, "batch_size"),
    ({"num_workers": -2}, "num_workers"),
    ({"order": "random"}, "OrderOption"),
    ({"rank": 2, "world_size": 2}, "rank"),
    ({"world_size": 2, "seed": None}, "same seed"),
    ({"on_error": "ignore"}, "on_error"),
    ({"on_error": "skip", "world_size": 2}, "substitute"),
    ({"pipelines": {"image": [RandomHorizontalFlip(), RandomResizedCrop(8)]}}, "first transform"),
    (
        {"pipelines": {"image": [NormalizeImage([1], [2]), RandomHorizontalFlip()]}},
        "before NormalizeImage",
    ),
    (
        {"pipelines": {"image": [RandomResizedCrop(8), ToDevice("cuda"), RandomHorizontalFlip()]}},
        "before all transforms",
    ),
    ({"pipelines": {"image": [RandomResizedCrop(8), 3]}}, "not a transform"),
    ({"pipelines": {"image": RandomResizedCrop(8)}}, "list"),
    ({"pipelines": {"image": [RandomResizedCrop(8), RandomHorizontalFlip]}}, "is a class"),
    ({"pipelines": {"label": ToTensor()}}, "list"),
    ({"pipelines": {"label": [RandomResizedCrop(8)]}}, "works on images"),
    (
        {
            "pipelines": {
                "image": [
                    MultiView([RandomResizedCrop(8)], n=2),
                    MultiView([RandomHorizontalFlip()], n=2),
                ]
            }
        },
        "one MultiView",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD_ARGUMENTS)
def test_bad_argument__is_refused_before_any_work(raw_file, options, message):
    """The constructor raises an error that names the problem."""
    with pytest.raises(PipelineError, match=message):
        Loader(raw_file, **{"batch_size": 8, "seed": 0, **options})


def test_unknown_field__is_refused(raw_file):
    """A pipeline for a field that the file does not have names those it has."""
    with pytest.raises(FieldNotFound, match="image, label, half"):
        Loader(raw_file, 8, pipelines={"imge": [Resize(8)]})
