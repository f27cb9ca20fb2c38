"""Checkpoints are whole or absent."""

import pytest
import torch

from ffcv_ssl.errors import CheckpointError
from ffcv_ssl.train import load_checkpoint
from ffcv_ssl.train.checkpoint import save_atomically


class BreaksWhenSaved:
    def __reduce__(self):
        raise OSError("disk full")


def test_save_atomically__failure_keeps_the_old_file(tmp_path):
    """When writing fails half-way the previous checkpoint loads, and no temporary file is left."""
    path = tmp_path / "checkpoint.pt"
    save_atomically({"format": 1, "value": torch.arange(5)}, path)
    with pytest.raises(OSError, match="disk full"):
        save_atomically({"big": torch.zeros(100_000), "bad": BreaksWhenSaved()}, path)
    assert torch.equal(load_checkpoint(path)["value"], torch.arange(5))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_save_atomically__torn_temporary_file_is_harmless(tmp_path):
    """A temporary file left by a killed process is neither read nor in the way."""
    path = tmp_path / "checkpoint.pt"
    save_atomically({"format": 1, "value": 1}, path)
    path.with_name("checkpoint.pt.tmp").write_bytes(b"half a checkpoint")
    assert load_checkpoint(path)["value"] == 1
    save_atomically({"format": 1, "value": 2}, path)
    assert load_checkpoint(path)["value"] == 2


def test_load_checkpoint__names_what_is_wrong(tmp_path):
    """Missing, truncated, foreign and executable files are CheckpointErrors with the path."""
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
