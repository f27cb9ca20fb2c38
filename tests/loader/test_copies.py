"""Copies of a loader: their position, their arguments and their file."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.errors import CheckpointError, ConfigError, PipelineError
from ffcv_ssl.loader import BetonDataset, Loader, OrderOption
from ffcv_ssl.reader import Reader
from ffcv_ssl.transforms import CenterCrop, ModuleWrapper, RandomResizedCrop, Resize, ToTensor

ROOT = Path(__file__).parents[2]
OPTIONS = {"seed": 3, "order": OrderOption.RANDOM, "with_ids": True, "num_workers": 2}
SIMCLR = {"image": views.simclr(16)}
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda loader: pickle.loads(pickle.dumps(loader)),
}
SELECTIONS = {
    "all": {},
    "some": {"indices": range(5, 37)},
    "repeated": {"indices": [3, 3, 9, 30] * 9},
    "weights": {"weights": np.arange(40)},
    "balanced": {"balanced": "label"},
    "by page": {"order": OrderOption.QUASI_RANDOM, "balanced": "label"},
}


def make(path, **options):
    return Loader(path, **{"batch_size": 8, "pipelines": SIMCLR, **OPTIONS, **options})


def contents(loader, num_epochs=1):
    """Ids and pixels of some epochs."""
    return [
        (batch.ids.tobytes(), batch.image.numpy().tobytes())
        for _ in range(num_epochs)
        for batch in loader
    ]


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_copy__goes_on_where_the_loader_would(raw_file, way, selection):
    """At any position, a copy has the state and the next two epochs of its loader."""
    with make(raw_file, **SELECTIONS[selection]) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        for prepare in (
            lambda: None,  # within epoch 0
            lambda: loader.set_epoch(6),
            lambda: loader.load_state_dict(state),
            lambda: loader.load_state_dict({**state, "epoch": 4}),
            lambda: next(iter(loader)),  # within the epoch that was resumed
            lambda: list(loader),
        ):
            prepare()
            with WAYS[way](loader) as other:
                assert other.state_dict() == loader.state_dict()
                assert (other.epoch, other.seed, len(other)) == (
                    loader.epoch,
                    loader.seed,
                    len(loader),
                )
                again = WAYS[way](other)
                assert contents(other, 2) == contents(loader, 2)
            with again:
                assert again.epoch == other.epoch - 2


def test_copy__leaves_the_loader_alone(raw_file):
    """A copy has threads, file and position of its own: neither moves or closes the other."""
    with make(raw_file) as loader:
        batches = iter(loader)
        first = next(batches)
        other = copy.copy(loader)
        list(other)
        other.close()
        rest = [first, *batches]
        assert loader.epoch == 1
        loader.set_epoch(0)
        assert contents(loader) == [
            (batch.ids.tobytes(), batch.image.numpy().tobytes()) for batch in rest
        ]
    with copy.copy(loader) as reopened:  # the loader is closed by now
        assert len(list(reopened)) == 5


def test_deepcopy__copies_modules_and_copy_shares_them(raw_file):
    """As everywhere in Python."""
    module = torch.nn.Conv2d(3, 1, 1, bias=False)
    pipelines = {
        "image": [CenterCrop(16), ToTensor(), lambda images: images.float(), ModuleWrapper(module)]
    }
    with (
        make(raw_file, pipelines=pipelines) as loader,
        copy.copy(loader) as shared,
        copy.deepcopy(loader) as own,
    ):
        before = [next(iter(each)).image for each in (loader, shared, own)]
        assert torch.equal(before[0], before[1])
        assert torch.equal(before[0], before[2])
        with torch.no_grad():
            module.weight.zero_()
        after = [next(iter(each)).image for each in (shared, own)]
    assert not after[0].any()
    assert after[1].any()


@pytest.mark.parametrize("way", WAYS)
def test_copy__has_the_arguments_that_the_loader_was_built_with(raw_file, way):
    """Later changes to the caller's lists, dictionaries and arrays affect no copy."""
    pipelines, indices, mapper = (
        {"image": [RandomResizedCrop(16)], "other": [Resize(8)]},
        list(range(20)),
        {"other": "image"},
    )
    with make(raw_file, pipelines=pipelines, indices=indices, custom_field_mapper=mapper) as loader:
        pipelines["image"][0] = Resize(4)
        pipelines["label"] = None
        indices[:] = [39] * 20
        mapper.clear()
        with WAYS[way](loader) as other, loader.filter("label", lambda labels: labels < 99) as same:
            first, second, third = (next(iter(each)) for each in (loader, other, same))
    assert first._fields == second._fields == third._fields == ("image", "other", "label", "half")
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.image, third.image)


def test_filter__keeps_the_epoch(raw_file):
    """A filtered loader begins with the next epoch of its loader, also within an epoch."""
    with make(raw_file) as loader:
        loader.set_epoch(4)
        for epoch in (4, 5):
            with (
                loader.filter("label", lambda labels: labels % 2 == 0) as even,
                make(raw_file, indices=range(0, 40, 2)) as expected,
            ):
                assert even.epoch == even.state_dict()["epoch"] == epoch
                expected.set_epoch(epoch)
                assert contents(even) == contents(expected)
            next(iter(loader))


def test_filter__of_a_resumed_loader(raw_file):
    """A position to resume at is kept if all samples are, and refused for another selection."""
    with make(raw_file) as loader:
        batches = iter(loader)
        for _ in range(2):
            next(batches)
        state = loader.state_dict()
    with make(raw_file) as loader:
        loader.load_state_dict(state)
        with loader.filter("label", lambda labels: labels >= 0) as same:
            assert same.state_dict() == state
            rest = contents(same)
        with pytest.raises(
            PipelineError,
            match=r"raw.beton: this loader resumes epoch 0 at position 16.*Filter before",
        ):
            loader.filter("label", lambda labels: labels > 0)
        assert contents(loader) == rest
        assert len(rest) == 3
        loader.filter("label", lambda labels: labels > 0).close()  # the position is used up


def test_state__of_a_filtered_loader_goes_on_there(raw_file):
    """Filter first, then load the state of a loader that was filtered alike."""
    with make(raw_file) as loader, loader.filter("label", lambda labels: labels >= 8) as chosen:
        everything = contents(chosen)
        chosen.set_epoch(0)
        next(iter(chosen))
        state = json.loads(json.dumps(chosen.state_dict()))
    with make(raw_file) as loader, loader.filter("label", lambda labels: labels >= 8) as chosen:
        chosen.load_state_dict(state)
        assert contents(chosen) == everything[1:]


def test_copy__of_a_loader_whose_file_was_replaced_is_refused(tmp_path, raw_file, jpeg_file):
    """A copy opens the path again; another file there has other samples, so the copy raises."""
    path = tmp_path / "data.beton"
    shutil.copy(raw_file, path)
    with make(path) as loader:
        pickled = pickle.dumps(loader)
        os.replace(shutil.copy(jpeg_file, tmp_path / "new.beton"), path)
        for reopen in (lambda: copy.copy(loader), lambda: pickle.loads(pickled)):
            with pytest.raises(
                CheckpointError, match=r"data.beton: the saved state belongs to another file"
            ):
                reopen()


@pytest.fixture
def somewhere(tmp_path, raw_file, monkeypatch):
    """The working directory contains `raw.beton`; beside it is an empty folder `elsewhere`."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(raw_file, tmp_path / "here/raw.beton")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["raw.beton", "./raw.beton", "../here/raw.beton", Path("raw.beton"), b"raw.beton"],
    ids=str,
)
def test_copies__find_the_file_from_another_directory(somewhere, path, monkeypatch):
    """Paths are absolute, so copies and filtered loaders open the file from any directory."""
    with make(path) as loader, Reader(path) as reader:
        dataset = BetonDataset(path)
        assert {loader.path, reader.path, dataset.reader.path} == {loader.reader.path}
        assert os.path.isabs(loader.path)
        assert os.path.samefile(loader.path, "raw.beton")
        monkeypatch.chdir(somewhere / "elsewhere")
        expected = contents(loader)
        for reopen in WAYS.values():
            loader.set_epoch(0)
            with (
                reopen(loader) as other,
                loader.filter("label", lambda labels: labels >= 0) as same,
                reopen(reader) as again,
            ):
                assert contents(other) == contents(same) == expected
                assert again.read(3, "image") == reader.read(3, "image")
            assert np.array_equal(reopen(dataset)[3][0], dataset[3][0])


def test_path__keeps_what_depends_on_links(somewhere, monkeypatch):
    """`..` behind a link to a folder is the parent of the folder that the link leads to."""
    (somewhere / "far/away").mkdir(parents=True)
    shutil.copy("raw.beton", somewhere / "far/raw.beton")
    Path("link").symlink_to(somewhere / "far/away")
    os.remove("raw.beton")
    with Reader("link/../raw.beton") as reader:
        assert os.path.samefile(reader.path, somewhere / "far/raw.beton")
    with pytest.raises(ConfigError, match="empty path"):
        Reader("")


SPAWNED = """
import pickle, sys
loader = pickle.load(open(sys.argv[1], "rb"))
with loader:
    before = loader.epoch, loader.state_dict()["position"]
    ids = [batch.ids.tolist() for batch in loader]
    print(*before, ids, loader.epoch)
"""


def test_pickled_loader__goes_on_in_a_spawned_process(somewhere):
    """In a process with another working directory, it continues at the same position."""
    with make("raw.beton", balanced="label") as loader:
        loader.set_epoch(2)
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        rest = [batch.ids.tolist() for batch in batches]
        loader.load_state_dict(state)
        (somewhere / "loader.pickle").write_bytes(pickle.dumps(loader))
    command = [sys.executable, "-W", "error", "-c", SPAWNED, somewhere / "loader.pickle"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=somewhere / "elsewhere", env=env, capture_output=True, text=True, timeout=100
    )
    assert run.stdout.strip() == f"2 8 {rest} 3", run.stderr
