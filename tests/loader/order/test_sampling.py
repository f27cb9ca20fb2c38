"""Weighted and balanced sampling: frequencies, order, and errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ffcv_ssl import views
from ffcv_ssl.errors import CheckpointError, FfcvSslError, FieldNotFound, PipelineError
from ffcv_ssl.fields import BytesField, FloatField, IntField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.order.page_order import sample_pages
from ffcv_ssl.loader.order.sampling import Weights, has_repeats, occurrences
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter

PAGE = 2 << 20
DRAWN = {
    "order": OrderOption.RANDOM,
    "seed": 5,
    "drop_last": False,
    "with_ids": True,
    "num_workers": 2,
}
LONG_TAIL = (
    np.repeat(np.arange(5), (100, 40, 20, 5, 1)) * 1_000_000_007 - 3
)  # labels need not be 0 … C - 1


@pytest.fixture(scope="module")
def tail_file(tmp_path_factory):
    """166 samples of five classes, the largest a hundred times the smallest, on eight pages."""
    fields = {"label": IntField(), "blob": BytesField(), "weight": FloatField()}
    samples = [(int(label), bytes(100_000), i / 2) for i, label in enumerate(LONG_TAIL)]
    path = str(tmp_path_factory.mktemp("tail") / "tail.beton")
    DatasetWriter(path, fields, PAGE, num_workers=0, progress=False).from_indexed_dataset(samples)
    return path


def drawn_ids(path, **options):
    """Sample ids of one epoch."""
    with Loader(
        path, **{"batch_size": 16, **DRAWN, "pipelines": {"blob": None}, **options}
    ) as loader:
        return np.concatenate([batch.ids for batch in loader])


@given(st.lists(st.integers(0, 9), max_size=60).map(np.array))
def test_occurrences__count_the_equal_entries_before(ids):
    """`occurrences` counts earlier equal entries; `has_repeats` is true if there are any."""
    ids = ids.astype(np.int64)
    expected = [list(ids[:i]).count(ids[i]) for i in range(len(ids))]
    assert occurrences(ids).tolist() == expected
    assert has_repeats(ids) == (max(expected, default=0) > 0)


@pytest.mark.parametrize(
    "weights", [[1, 2, 3, 4], [0.5] * 7, [1, 3e-4, 0.5], range(1, 200), [1e300, 3e300]], ids=str
)
@pytest.mark.parametrize("seed", [0, 2**63])
def test_draws__follow_the_weights(weights, seed):
    """The counts of 60,000 draws agree with the shares of the weights (chi-square)."""
    many = np.resize(np.array(weights, float), 60_000 // len(weights) * len(weights))
    counts = np.bincount(Weights(many).draw(seed, 3) % len(weights), minlength=len(weights))
    shares = np.array(weights) / max(weights)
    assert stats.chisquare(counts, len(many) * shares / shares.sum()).pvalue > 1e-3


def test_draws__do_not_depend_on_each_other():
    """Draws at neighboring positions, and in consecutive epochs, are uncorrelated."""
    weights = Weights(np.ones(20_000))
    first, second = weights.draw(0, 0), weights.draw(0, 1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02
    assert 0.62 < len(set(first)) / 20_000 < 0.645  # with replacement: 1 - 1/e


@given(
    weights=st.lists(
        st.sampled_from([0.0, 5e-324, 1e-9, 1.0, 3.0, 1e308]), min_size=1, max_size=50
    ).filter(any),
    seed=st.integers(0, 2**64 - 1),
)
def test_draws__never_give_a_weight_of_zero(weights, seed):
    """With denormal weights and overflowing sums, no sample of weight 0 is drawn."""
    values = np.array(weights)
    positions = Weights(values).draw(seed, 0)
    assert len(positions) == len(values)
    assert (values[positions] > 0).all()


@pytest.mark.parametrize("weights", [[1, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0], [3, 1e-30, 0]])
def test_draws__at_the_edges_of_the_hash(weights, monkeypatch):
    """The smallest hash draws the first possible sample, the largest the last one."""
    for bits, expected in (
        (0, np.flatnonzero(weights)[0]),
        (2**64 - 1, {3: 0, 5: 3}[len(weights)]),
    ):
        monkeypatch.setattr(
            "ffcv_ssl.loader.order.sampling.hashes",
            lambda *_, bits=bits: np.full(len(weights), bits, np.uint64),
        )
        assert set(Weights(np.array(weights, float)).draw(0, 0)) == {expected}


def test_draws__are_pinned():
    """The draws behind a seed never change."""
    assert Weights(np.array([1.0, 0.0, 2.0, 5.0, 0.5, 9.0])).draw(2**63 + 5, 7).tolist() == PINNED


PINNED = [5, 3, 3, 3, 5, 5]


def test_weights__are_one_per_entry_of_indices(tail_file):
    """A sample that occurs twice in `indices` has two weights; a mask comes first."""
    indices = [7, 3, 7, 160]
    assert set(drawn_ids(tail_file, indices=indices, weights=[0, 1, 0, 1])) == {3, 160}
    assert set(
        drawn_ids(tail_file, indices=np.isin(np.arange(166), indices), weights=[0, 0, 1])
    ) == {160}


@pytest.mark.parametrize(
    "make", [list, tuple, np.float16, torch.tensor, lambda weights: np.array(weights)[::1]]
)
def test_weights__of_any_kind(tail_file, make):
    """Lists, tuples, arrays and tensors of any number type weigh the same."""
    weights = [1, 2, 0, 4]
    expected = drawn_ids(tail_file, indices=range(4), weights=weights)
    np.testing.assert_array_equal(
        drawn_ids(tail_file, indices=range(4), weights=make(weights)), expected
    )
    assert 2 not in expected


def test_balanced__makes_classes_equally_likely(tail_file):
    """Over fifty epochs the five classes come equally often, and within each its samples do."""
    with Loader(
        tail_file, 166, pipelines={"blob": None, "weight": None}, balanced="label", **DRAWN
    ) as loader:
        ids = np.concatenate([batch.ids for _ in range(50) for batch in loader])
    per_class = np.unique(LONG_TAIL[ids], return_counts=True)[1]
    assert stats.chisquare(per_class).pvalue > 1e-3
    assert per_class.min() > 1500  # of 8,300 draws
    for label in np.unique(LONG_TAIL):
        counts = np.bincount(ids, minlength=166)[label == LONG_TAIL]
        assert len(counts) == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_balanced__is_what_its_weights_are(tail_file):
    """`balanced` equals weights of 1 / class size, so both accept each other's states."""
    chosen = np.arange(90, 166)
    labels = LONG_TAIL[chosen]
    weights = 1 / np.array([(labels == label).sum() for label in labels])
    expected = drawn_ids(tail_file, indices=chosen, weights=weights)
    np.testing.assert_array_equal(drawn_ids(tail_file, indices=chosen, balanced="label"), expected)
    with (
        Loader(tail_file, 4, indices=chosen, weights=weights, **DRAWN) as one,
        Loader(tail_file, 4, indices=chosen, balanced="label", **DRAWN) as other,
    ):
        other.load_state_dict(one.state_dict())


def test_quasi_random__sorts_the_draws_by_page(tail_file):
    """QUASI_RANDOM draws the samples that RANDOM draws, and reads each page of the file once."""
    options = {"balanced": "label", "shuffle_bytes": 2 * PAGE}
    quasi = drawn_ids(tail_file, order=OrderOption.QUASI_RANDOM, **options)
    at_random = drawn_ids(tail_file, **options)
    assert sorted(quasi) == sorted(at_random)
    assert len(set(quasi)) < 100  # most draws repeat one of a few samples
    with Reader(tail_file) as reader:
        pages = sample_pages(reader)
    assert len(set(pages[quasi])) == 9
    assert np.count_nonzero(np.diff(pages[quasi])) == 8
    assert np.count_nonzero(np.diff(pages[at_random])) > 50
    assert quasi.tolist() != sorted(quasi)


def test_quasi_random__asks_only_for_pages_that_are_drawn_from(tail_file):
    """Pages whose samples have no weight are not read ahead."""
    weights = np.arange(166) < 20
    with Loader(
        tail_file, 8, weights=weights, **{**DRAWN, "order": OrderOption.QUASI_RANDOM}
    ) as loader:
        drawn = loader._file.layout.select(loader._file.selection.weights.draw(5, 0))
        assert set(np.concatenate([batch.ids for batch in loader])) <= set(range(20))
    assert len(loader._file.layout.page_numbers) == 9
    assert len(drawn.page_numbers) == 1


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(
    "how",
    [{"weights": np.arange(40)}, {"balanced": "label"}, {"indices": [3] * 17 + [5, 3, 8] * 8}],
)
def test_draws__are_shared_by_ranks_and_resumed(raw_file, how, drop_last):
    """Ranks, batch size, threads and resume point change no sample and no pixel at any position."""
    options = {
        **DRAWN,
        "drop_last": drop_last,
        "pipelines": {"image": views.simclr(16), "half": None},
        **how,
    }
    with Loader(raw_file, 8, **options) as loader:
        expected = [
            (int(i), view)
            for batch in loader
            for i, view in zip(batch.ids, batch.image.numpy(), strict=True)
        ]
    assert len({view.tobytes() for _, view in expected}) == len(expected)
    for threads, size, world_size in ((0, 8, 1), (2, 4, 2), (1, 2, 4)):
        found = {}
        for rank in range(world_size):
            shared = {**options, "num_workers": threads, "rank": rank, "world_size": world_size}
            with Loader(raw_file, size, **shared) as loader:
                batches = iter(loader)
                states = [loader.state_dict()]
                for _ in range(2):
                    next(batches)
                    states.append(loader.state_dict())
            for state, steps in ((states[0], range(2)), (states[2], range(2, 99))):
                with Loader(raw_file, size, **shared) as resumed:
                    resumed.load_state_dict(state)
                    for step, batch in zip(steps, resumed, strict=False):
                        for position, (i, view) in enumerate(
                            zip(batch.ids, batch.image.numpy(), strict=True)
                        ):
                            found[step * size * world_size + position * world_size + rank] = (
                                int(i),
                                view,
                            )
        num_filled = (
            -(-len(expected) // world_size) * world_size
        )  # by ranks left over in the last step
        assert set(range(len(expected))) <= set(found) <= set(range(num_filled))
        assert len({view.tobytes() for _, view in found.values()}) == len(found)
        for position, (i, view) in enumerate(expected):
            assert found[position][0] == i
            np.testing.assert_array_equal(found[position][1], view)


def test_length__is_that_of_the_selection(tail_file):
    """An epoch has as many samples as are selected, however few of them are drawn."""
    with Loader(tail_file, 16, weights=np.arange(166) == 9, **DRAWN) as loader:
        assert len(loader) == 11
        assert sum(len(batch.ids) for batch in loader) == 166


def test_epochs__draw_anew_and_repeat(tail_file):
    """Epochs and seeds differ; the same give the same."""
    options = {**DRAWN, "weights": np.ones(166), "pipelines": {"blob": None}}
    with Loader(tail_file, 166, **options) as loader:
        first, second = (next(iter(loader)).ids.tolist() for _ in range(2))
        loader.set_epoch(0)
        assert next(iter(loader)).ids.tolist() == first
    assert first != second
    assert drawn_ids(tail_file, weights=np.ones(166), seed=6).tolist() != first


def test_state__of_other_weights_is_refused(raw_file):
    """A state is accepted only with the weights with which it was saved."""
    ways = [{"weights": np.arange(40)}, {"weights": np.arange(40)[::-1]}, {"balanced": "label"}, {}]
    loaders = [Loader(raw_file, 8, **DRAWN, **how) for how in ways]
    for i, loader in enumerate(loaders):
        for j, other in enumerate(loaders):
            if i == j:
                loader.load_state_dict(other.state_dict())
            else:
                with pytest.raises(CheckpointError, match="weights"):
                    loader.load_state_dict(other.state_dict())
    for loader in loaders:
        loader.close()


def test_filter__carries_the_weights(tail_file):
    """The samples that are left keep their weights; `balanced` counts the classes that are left."""
    weights = np.where(np.arange(166) % 2, 3.0, 0.5)
    with (
        Loader(tail_file, 16, weights=weights, pipelines={"blob": None}, **DRAWN) as loader,
        loader.filter("weight", lambda values: values > 40) as chosen,
        chosen.filter("weight", lambda values: values > 60) as fewer,
    ):
        for filtered, first in ((chosen, 81), (fewer, 121)):
            expected = drawn_ids(tail_file, indices=range(first, 166), weights=weights[first:])
            np.testing.assert_array_equal(
                np.concatenate([batch.ids for batch in filtered]), expected
            )
    with (
        Loader(tail_file, 16, balanced="label", pipelines={"blob": None}, **DRAWN) as loader,
        loader.filter("weight", lambda values: values < 75) as chosen,
    ):
        ids = np.concatenate([batch.ids for batch in chosen])
    np.testing.assert_array_equal(ids, drawn_ids(tail_file, indices=range(150), balanced="label"))
    with (
        Loader(tail_file, 16, weights=np.arange(166) < 9, **DRAWN) as loader,
        pytest.raises(PipelineError, match="all 86 weights are 0"),
    ):
        loader.filter("weight", lambda values: values >= 40)


def test_weights__are_copied(raw_file):
    """Later changes to weights or indices affect neither the loader nor a filtered loader."""
    weights, indices = np.ones(20), np.arange(20)
    with Loader(raw_file, 20, weights=weights, indices=indices, **DRAWN) as loader:
        first = next(iter(loader)).ids
        weights[:], indices[:] = np.arange(20) == 3, 39
        loader.set_epoch(0)
        np.testing.assert_array_equal(next(iter(loader)).ids, first)
        loader.set_epoch(0)
        with loader.filter("label", lambda labels: labels >= 0) as same:
            np.testing.assert_array_equal(next(iter(same)).ids, first)


def test_empty_selection__has_no_batch(raw_file):
    """No sample, no weight, no batch."""
    for how in ({"weights": []}, {"balanced": "label"}):
        with pytest.warns(UserWarning, match="yields no batches"):
            loader = Loader(raw_file, 8, indices=[], **DRAWN, **how)
        with loader:
            assert list(loader) == []


REFUSED = [
    (
        {"weights": [1.0] * 39},
        PipelineError,
        r"one number for each selected sample, shape \(40,\), got \(39,\)",
    ),
    (
        {"weights": [1.0] * 40, "indices": [1, 2]},
        PipelineError,
        r"\(2,\), got \(40,\); with indices, give weights\[indices\]",
    ),
    ({"weights": np.ones((40, 1))}, PipelineError, r"got \(40, 1\)"),
    ({"weights": 1.0}, PipelineError, r"got \(\)"),
    (
        {"weights": [1.0] * 20 + [-0.5] + [1.0] * 19},
        PipelineError,
        r"got -0.5 at position 20 \(sample 20\)",
    ),
    (
        {"weights": [1.0, float("nan")], "indices": [7, 9]},
        PipelineError,
        r"got nan at position 1 \(sample 9\)",
    ),
    ({"weights": [1.0, float("inf")], "indices": [7, 9]}, PipelineError, "got inf"),
    ({"weights": np.zeros(40)}, PipelineError, "all 40 weights are 0"),
    ({"weights": ["many"] * 40}, PipelineError, "weights must be an array of numbers, got <U4"),
    ({"weights": [None] * 40}, PipelineError, "weights must be an array of numbers, got object"),
    ({"weights": [[1], [2, 3]]}, PipelineError, "weights must be an array of numbers"),
    ({"weights": torch.ones(40, requires_grad=True)}, PipelineError, "requires grad"),
    ({"weights": np.ones(40), "balanced": "label"}, PipelineError, "not both"),
    (
        {"weights": np.ones(40), "order": OrderOption.SEQUENTIAL},
        PipelineError,
        "use OrderOption.RANDOM",
    ),
    (
        {"balanced": "label", "order": OrderOption.SEQUENTIAL},
        PipelineError,
        "balanced draws samples at random",
    ),
    ({"balanced": "class"}, FieldNotFound, "Fields: image, label, half"),
    (
        {"balanced": "half"},
        PipelineError,
        "balanced needs a field of integers, but field 'half' contains float64",
    ),
    (
        {"balanced": "image"},
        PipelineError,
        "balanced needs a scalar field, but 'image' is a RGBImageField",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_bad_weights__are_refused(raw_file, options, error, message):
    """The constructor raises; the message names the file, the given and the expected value."""
    with pytest.raises(error, match=message) as caught:
        Loader(raw_file, 8, **{**DRAWN, **options})
    assert isinstance(caught.value, FfcvSslError)
    assert "raw.beton" in str(caught.value)
