"""Tests of checkpoints: atomic writing, and detection of damage."""

import json
import random
import re
from types import SimpleNamespace

import pytest
import torch

from ffcv_ssl.errors import CheckpointError
from ffcv_ssl.evaluate import export_backbone, restore_backbone
from ffcv_ssl.train import CropViews, ModelConfig, load_checkpoint
from ffcv_ssl.train.checkpoint import read_weights, save_atomically
from tests.train.test_loop import Run, small_method


class BreaksWhenSaved:
    def __reduce__(self):
        raise OSError("disk full")


def test_save_atomically__failure_keeps_the_old_file(tmp_path):
    """After a failed write the old checkpoint is intact, and no temporary file is left."""
    path = tmp_path / "checkpoint.pt"
    save_atomically({"format": 1, "value": torch.arange(5)}, path)
    with pytest.raises(OSError, match="disk full"):
        save_atomically({"big": torch.zeros(100_000), "bad": BreaksWhenSaved()}, path)
    assert torch.equal(load_checkpoint(path)["value"], torch.arange(5))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_save_atomically__torn_temporary_file_is_harmless(tmp_path):
    """A temporary file left by a killed process is ignored."""
    path = tmp_path / "checkpoint.pt"
    save_atomically({"format": 1, "value": 1}, path)
    path.with_name("checkpoint.pt.tmp").write_bytes(b"half a checkpoint")
    assert load_checkpoint(path)["value"] == 1
    save_atomically({"format": 1, "value": 2}, path)
    assert load_checkpoint(path)["value"] == 2


def test_load_checkpoint__names_what_is_wrong(tmp_path):
    """Missing, truncated, foreign and executable files raise a CheckpointError."""
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    path = tmp_path / "checkpoint.pt"
    save_atomically({"format": 1, "value": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"format": 7}, path)
    with pytest.raises(CheckpointError, match="checkpoint format 7"):
        load_checkpoint(path)
    torch.save({"format": 1, "code": print}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)


def mutants(content, count, seed):
    """Yield an empty file and copies with flipped, missing or overwritten bytes."""
    generator = random.Random(seed)
    yield b""
    for _ in range(count):
        changed, place = bytearray(content), generator.randrange(len(content))
        kind = generator.choice(("bits", "cut", "gone", "zeros", "text"))
        if kind == "bits":
            for _ in range(generator.choice((1, 1, 5))):
                changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        elif kind == "cut":
            del changed[place:]
        elif kind == "gone":
            del changed[place : place + generator.randrange(1, 64)]
        else:
            fill = b"\0" if kind == "zeros" else b"}[\xff"
            changed[place : place + 16] = (fill * 16)[: len(changed[place : place + 16])]
        yield bytes(changed)


def outcome(read, path):
    """Return the result of reading a file, or the message of its CheckpointError."""
    try:
        return read(path), ""
    except CheckpointError as error:
        return None, str(error)


def test_load_checkpoint__damaged_files_are_named_or_harmless(tmp_path):
    """Each of 400 damaged copies raises a CheckpointError, or has the saved content."""
    path = tmp_path / "checkpoint.pt"
    saved = {
        "format": 1,
        "method": {"w": torch.arange(300.0), "b": torch.ones(7, dtype=torch.int64)},
        "progress": {"step": 3},
    }
    save_atomically({**saved, "loader": {"epoch": 1}}, path)
    refused = 0
    for content in mutants(path.read_bytes(), 400, seed=0):
        path.write_bytes(content)
        found, message = outcome(read_weights, path)
        refused += found is None
        if found is None:
            assert re.fullmatch(rf"{re.escape(str(path))}: .+", message)
        else:
            weights, progress, epochs = found
            assert all(torch.equal(weights[name], value) for name, value in saved["method"].items())
            assert (progress.step, epochs) == (3, 1)
    assert refused > 300


@pytest.mark.parametrize(
    "content",
    [
        {"method": 3},
        {"progress": None},
        {"progress": {"stride": 1}},
        {"progress": {"step": "x"}},
        {"loader": []},
    ],
)
def test_read_weights__rejects_entries_of_the_wrong_type(tmp_path, content):
    """A readable checkpoint with entries of the wrong type raises a CheckpointError."""
    path = tmp_path / "checkpoint.pt"
    save_atomically(
        {"format": 1, "method": {}, "progress": {"step": 3}, "loader": {"epoch": 1}, **content},
        path,
    )
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: the checkpoint is incomplete"):
        read_weights(path)


@pytest.mark.parametrize("part", ["method", "optimizer", "loader", "rng", "progress"])
def test_checkpoint__restore_refuses_parts_of_the_wrong_type(tmp_path, part):
    """Resuming from a checkpoint with a state of the wrong type raises a CheckpointError."""
    Run(tmp_path, epochs=1).fit()
    path = tmp_path / "checkpoint.pt"
    content = load_checkpoint(path)
    for value in (None, 3, [], {"state": {0: 1}, "param_groups": [7]}):
        save_atomically({**content, part: value}, path)
        with pytest.raises(CheckpointError, match=r"checkpoint.pt: "):
            Run(tmp_path, epochs=1, resume=True).fit()


def test_restore_backbone__damaged_files_are_named_or_harmless(tmp_path):
    """Each of 200 damaged copies raises a CheckpointError, or has the saved weights."""
    method = small_method("simclr")
    c = SimpleNamespace(model=ModelConfig(width=2, stem="cifar_stride2"), view=CropViews(size=16))
    _, path = export_backbone(method, c, "simclr", tmp_path, steps=7, epochs=2)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    refused = 0
    header, values = path.read_bytes()[: 8 + size], path.read_bytes()[8 + size :]
    for content in mutants(header, 150, seed=0):
        whole = content + values if content else content
        refused += damaged_backbone(tmp_path / "damaged.safetensors", whole, method)
    for content in mutants(path.read_bytes(), 50, seed=1):
        refused += damaged_backbone(tmp_path / "damaged.safetensors", content, method)
    assert refused > 150


def damaged_backbone(path, content, method):
    """Return whether a file is rejected; otherwise check that it holds the weights."""
    path.write_bytes(content)
    trained, message = outcome(restore_backbone, path)
    if trained is None:
        assert re.fullmatch(rf"{re.escape(str(path))}: .+", message)
        return True
    for name, value in method.backbone.state_dict().items():
        assert torch.equal(trained.method.backbone.state_dict()[name], value), name
    return False


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "null"},
        {"std": "[0, 1, 1]"},
        {"mean": "[1]"},
        {"width": "1e3"},
        {"image_size": "-1"},
        {"std": "[" * 10_000},
    ],
)
def test_restore_backbone__refuses_impossible_metadata(tmp_path, change):
    """Metadata of a wrong type, length, range or depth raise a CheckpointError with the path."""
    from safetensors.torch import save_file

    metadata = {
        "architecture": "resnet18",
        "width": "2",
        "stem": "cifar",
        "mean": json.dumps([1, 2, 3]),
        "std": json.dumps([1, 2, 3]),
    }
    metadata |= {
        "method": "simclr",
        "steps": "1",
        "epochs": "1",
        "image_size": "8",
        "image_ratio": "1",
        **change,
    }
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"a.safetensors: its metadata are not those"):
        restore_backbone(tmp_path / "a.safetensors")
