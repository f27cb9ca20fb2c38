"""Orders of an epoch, and the pages that a quasi-random order reads."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffcv_ssl.errors import CheckpointError, PipelineError
from ffcv_ssl.fields import BytesField, IntField, JSONField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.order.page_order import PageLayout, page_layout, sample_pages
from ffcv_ssl.loader.order.read_ahead import PageReadAhead
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter

PAGE = 2 << 20
QUASI = {
    "order": OrderOption.QUASI_RANDOM,
    "shuffle_bytes": 4 * PAGE,
    "drop_last": False,
    "with_ids": True,
    "num_workers": 2,
}


def write(path, fields, samples):
    """Write samples (a list of tuples) in this process, in the smallest pages."""
    DatasetWriter(path, fields, PAGE, num_workers=0, progress=False).from_indexed_dataset(samples)
    return str(path)


@pytest.fixture(scope="module")
def paged_file(tmp_path_factory):
    """61 values of 300 kB, six on a page of 2 MiB, so eleven pages; some samples store nothing."""
    samples = [(bytes(0 if i % 20 == 7 else 300_000), b"", i) for i in range(61)]
    fields = {"blob": BytesField(), "empty": BytesField(), "label": IntField()}
    return write(tmp_path_factory.mktemp("paged") / "paged.beton", fields, samples)


@pytest.fixture(scope="module")
def scalar_file(tmp_path_factory):
    """A file without any page data."""
    return write(
        tmp_path_factory.mktemp("scalar") / "scalar.beton",
        {"label": IntField()},
        [(i,) for i in range(1000)],
    )


def ids(path, **options):
    """Sample ids of one epoch, batch by batch."""
    with Loader(path, **{"batch_size": 4, "seed": 1, **QUASI, **options}) as loader:
        batches = [batch.ids for batch in loader]
        assert len(loader) == len(batches)
    return batches


def layouts():
    """Layouts of up to 300 selected samples on up to 40 pages, any of them used."""
    pages = st.lists(st.integers(0, 39), max_size=300)
    return st.builds(make_layout, pages, st.integers(1, 12))


def make_layout(pages, pages_per_group):
    numbers, page_indices = np.unique(np.array(pages, np.int64), return_inverse=True)
    return PageLayout(numbers, page_indices, np.ones(len(numbers), bool), pages_per_group)


@given(layout=layouts(), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10**6))
def test_quasi_random__is_a_permutation_within_groups_of_pages(layout, seed, epoch):
    """Each position occurs once; a group has all samples of at most `pages_per_group` pages."""
    order, schedule = layout.shuffle(seed, epoch)
    assert sorted(order) == list(range(len(layout.page_indices)))
    assert sorted(schedule.page_numbers) == list(layout.page_numbers)
    for group in range(len(schedule.page_starts) - 1):
        pages = set(
            schedule.page_numbers[schedule.page_starts[group] : schedule.page_starts[group + 1]]
        )
        assert 1 <= len(pages) <= layout.pages_per_group
        members = order[schedule.sample_starts[group] : schedule.sample_starts[group + 1]]
        assert set(layout.page_numbers[layout.page_indices[members]]) == pages
    assert schedule.sample_starts[-1] == len(order)


@given(layout=layouts(), seed=st.integers(0, 99))
def test_window__needs_at_most_two_groups_of_pages(layout, seed):
    """Consecutive samples, as many as a group has, need at most twice the pages of a group."""
    order, schedule = layout.shuffle(seed, 0)
    length = int(np.diff(schedule.sample_starts).min(initial=len(order)))
    for start in range(len(order) - length + 1):
        assert (
            len(set(layout.page_indices[order[start : start + length]]))
            <= 2 * layout.pages_per_group
        )


@given(layout=layouts(), seed=st.integers(0, 99), step=st.integers(1, 60), first=st.integers(0, 60))
def test_read_ahead__asks_for_every_page_once_before_it_is_used_and_one_group_ahead_at_most(
    layout, seed, step, first
):
    """From any position on, each page is requested once, no later than its first batch."""
    order, schedule = layout.shuffle(seed, 3)
    requested = []
    ahead = PageReadAhead(None, schedule, first := min(first, len(order)))
    for start in range(first, len(order), step):
        stop = min(start + step, len(order))
        requested += [job.args[1] for job in ahead.advance(stop)]
        assert set(layout.page_numbers[layout.page_indices[order[start:stop]]]) <= set(requested)
        group = np.searchsorted(schedule.sample_starts, stop - 1, side="right") - 1
        assert set(requested) <= set(
            schedule.page_numbers[
                : schedule.page_starts[min(group + 2, len(schedule.page_starts) - 1)]
            ]
        )
    assert len(requested) == len(set(requested))
    assert not set(requested) & set(schedule.page_numbers[: schedule.first_page(first)])


def test_shuffle__depends_on_seed_epoch_and_group():
    """Another seed, another epoch or another budget gives another order; the same give the same."""
    pages = np.repeat(np.arange(16), 20)
    orders = [
        make_layout(pages, group).shuffle(seed, epoch)[0].tolist()
        for seed, epoch, group in [(0, 0, 4), (1, 0, 4), (0, 1, 4), (0, 0, 8)]
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == make_layout(pages, 4).shuffle(0, 0)[0].tolist()


def test_shuffle__mixes_pages_and_samples_evenly():
    """Over 400 epochs, each page is first about equally often, and so is each sample of a group."""
    layout = make_layout(np.repeat(np.arange(8), 20), 2)
    drawn = [layout.shuffle(5, epoch) for epoch in range(400)]
    first_pages = np.bincount([schedule.page_numbers[0] for _, schedule in drawn], minlength=8)
    assert first_pages.min() > 25
    assert first_pages.max() < 80
    halves = [
        sum(layout.page_indices[order[:20]] == schedule.page_numbers[0])
        for order, schedule in drawn
    ]
    assert 9.5 < np.mean(halves) < 10.5


def test_pages__are_those_of_the_stored_values(paged_file, scalar_file):
    """The page of a sample is the page of its stored values, or of its record if it has none."""
    with Reader(paged_file) as reader:
        pointers, sizes = reader.extents("blob")
        expected = np.where(sizes > 0, pointers // PAGE, 0)
        np.testing.assert_array_equal(sample_pages(reader), expected)
        layout = page_layout(reader, np.arange(61), ["blob"], 4 * PAGE, 1)
        assert (layout.pages_per_group, len(layout.page_numbers)) == (2, len(set(expected)))
        assert layout.is_dense[1:-1].all()  # six values of 300 kB fill more than half a page
        assert not layout.is_dense[0]
        assert not page_layout(reader, np.arange(61), ["blob"], 4 * PAGE, 2).is_dense.any()
        assert not page_layout(reader, np.arange(61), ["label"], 4 * PAGE, 1).is_dense.any()
    with Reader(scalar_file) as reader:
        assert set(sample_pages(reader)) == {0}


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("drop_last", [True, False])
def test_quasi_random__serves_ranks(paged_file, world_size, drop_last):
    """Ranks take the same number of steps and together read the samples of one rank in each."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # 8 ranks with drop_last have one batch, which is fine, or none
        ranks = [
            ids(paged_file, rank=rank, world_size=world_size, drop_last=drop_last)
            for rank in range(world_size)
        ]
        alone = ids(paged_file, batch_size=4 * world_size, drop_last=drop_last)
    assert {len(batches) for batches in ranks} == {len(alone)}
    for step, expected in enumerate(alone):
        assert set(np.concatenate([batches[step] for batches in ranks])) == set(expected)
    if not drop_last:
        assert set(np.concatenate(alone)) == set(range(61))


@pytest.mark.parametrize(
    "indices", [range(5, 40), [60, 3, 3, 17, 8, 59], np.arange(61) % 3 == 0, [11]]
)
def test_quasi_random__serves_any_selection(paged_file, scalar_file, indices):
    """Each sample occurs as often as it was selected, in files with page data and without."""
    chosen = np.flatnonzero(indices) if isinstance(indices, np.ndarray) else list(indices)
    assert sorted(np.concatenate(ids(paged_file, indices=indices))) == sorted(chosen)
    assert sorted(np.concatenate(ids(scalar_file, indices=chosen))) == sorted(chosen)


def test_quasi_random__without_page_data_is_a_shuffle(scalar_file):
    """A file of scalars is mixed as a whole, anew in every epoch."""
    with Loader(scalar_file, 1000, seed=1, **QUASI) as loader:
        first, second = (next(iter(loader)).ids.tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second
    assert first != sorted(first)


def test_quasi_random__filters(paged_file):
    """A filtered loader keeps order and budget, over the samples that are left."""
    with (
        Loader(paged_file, 4, seed=1, **QUASI) as loader,
        loader.filter("label", lambda labels: labels % 2 == 0) as even,
    ):
        assert (even.order, even.shuffle_bytes) == (OrderOption.QUASI_RANDOM, 4 * PAGE)
        assert [batch.ids.tolist() for batch in even] == [
            batch.tolist() for batch in ids(paged_file, indices=range(0, 61, 2))
        ]


@pytest.mark.parametrize("taken", [0, 1, 7, 16])
@pytest.mark.parametrize("other", [{}, {"batch_size": 2}, {"num_workers": 0}])
def test_quasi_random__resumes(paged_file, taken, other):
    """A resumed run continues like an uninterrupted one."""
    with Loader(paged_file, 4, seed=1, **QUASI) as loader:
        unbroken = [np.concatenate([batch.ids for batch in loader]).tolist() for _ in range(2)]
        loader.set_epoch(0)
        batches = iter(loader)
        before = [i for _ in range(taken) for i in next(batches).ids.tolist()]
        state = loader.state_dict()
    with Loader(paged_file, **{"batch_size": 4, "seed": 1, **QUASI, **other}) as loader:
        loader.load_state_dict(state)
        after = [
            [i for batch in loader for i in batch.ids.tolist()] for _ in range(2 - loader.epoch)
        ]
    assert [before + (after[0] if taken < 16 else []), after[-1]] == unbroken


def test_state__of_another_budget_is_refused(paged_file):
    """A state with other `shuffle_bytes` raises and names both values; other orders ignore them."""
    with Loader(paged_file, 4, seed=1, **QUASI) as loader:
        state = loader.state_dict()
    with Loader(paged_file, 4, seed=1, **{**QUASI, "shuffle_bytes": 6 * PAGE}) as other:
        with pytest.raises(
            CheckpointError, match=f"shuffle_bytes: {4 * PAGE}, this loader has {6 * PAGE}"
        ):
            other.load_state_dict(state)
        with pytest.raises(CheckpointError, match="key 'shuffle_bytes' is missing"):
            other.load_state_dict(
                {key: value for key, value in state.items() if key != "shuffle_bytes"}
            )
    with Loader(paged_file, 4, seed=1, **{**QUASI, "order": OrderOption.RANDOM}) as other:
        assert "shuffle_bytes" not in other.state_dict()
        with pytest.raises(CheckpointError, match="another order"):
            other.load_state_dict(state)


@pytest.mark.parametrize("budget", [0, -1, 1.5, None])
def test_bad_budget__is_refused(paged_file, budget):
    """`shuffle_bytes` must be a positive integer."""
    with pytest.raises(PipelineError, match="shuffle_bytes must be an integer >= 1"):
        Loader(paged_file, 4, shuffle_bytes=budget)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the platform takes no advice")
def test_loader__asks_for_the_pages_it_reads(paged_file, monkeypatch):
    """An epoch asks for every dense page once, page by page; other orders ask for nothing."""
    requested = []
    monkeypatch.setattr(
        os,
        "posix_fadvise",
        lambda file, start, size, advice: requested.append((start, size, advice)),
    )
    ids(paged_file)
    with Reader(paged_file) as reader:
        layout = page_layout(reader, np.arange(61), ["blob"], 4 * PAGE, 1)
    assert sorted(requested) == [
        (number * PAGE, PAGE, os.POSIX_FADV_WILLNEED)
        for number in layout.page_numbers[layout.is_dense]
    ]
    requested.clear()
    ids(paged_file, order=OrderOption.RANDOM)
    assert requested == []


def test_substitute__is_the_next_sample_of_the_order(tmp_path):
    """A damaged sample is replaced by one that follows in the quasi-random order."""
    path = write(
        tmp_path / "json.beton",
        {"note": JSONField(), "label": IntField()},
        [({"word": f"sample{i:03}"}, i) for i in range(30)],
    )
    with open(path, "r+b") as file:
        file.seek(file.read().find(b"sample013") - 3)
        file.write(b"\xff\xff")
    options = {"batch_size": 5, "seed": 1, **QUASI, "on_error": "substitute"}
    with Loader(path, **options) as loader:
        got = [int(i) for batch in loader for i in batch.ids]
        assert {failure.sample_id for failure in loader.failures} == {13}
    clean = np.concatenate(ids(path, pipelines={"note": None})).tolist()
    position = clean.index(13)
    following = clean[(position // 5 * 5 + 5 + position % 5) % 30]
    assert got == [following if i == 13 else i for i in clean]
