"""A run's weights back from its folder, and out of it as files for others."""

from types import SimpleNamespace

import pytest
import torch
import yaml

from ffcv_ssl.errors import CheckpointError, ConfigError
from ffcv_ssl.evaluate import backbone_weights, export_backbone, restore, restore_backbone
from ffcv_ssl.runs import read_run
from ffcv_ssl.runs.measurements import put_entry, read_entries
from ffcv_ssl.ssl import Normalize, SimCLR, resnet18, simclr_projector
from ffcv_ssl.train import CropViews, ModelConfig, frozen

MODEL = ModelConfig(width=3, stem="cifar_stride2", normalization="cifar10")


@pytest.fixture
def exported(tmp_path):
    """A network with running statistics of its own, and the two files of its backbone."""
    torch.manual_seed(0)
    backbone = resnet18(3, "cifar_stride2").to(memory_format=torch.channels_last)
    method = SimCLR(backbone, simclr_projector(24, 8, 4), Normalize((125.31, 122.95, 113.87), (62.99, 62.09, 66.70)))
    method(torch.randint(0, 256, (6, 2, 3, 16, 16), dtype=torch.uint8))
    c = SimpleNamespace(model=MODEL, view=CropViews(size=16, eval_ratio=0.75))
    return method, export_backbone(method, c, "simclr", tmp_path, steps=7, epochs=2)


def test_export__both_files_hold_the_backbone(exported):
    """The plain state_dict and the safetensors file are equal, float32, contiguous, and fit a new backbone."""
    from safetensors.torch import load_file

    method, (plain, safe) = exported
    assert (plain.name, safe.name) == ("backbone.pt", "backbone.safetensors")
    weights, other = torch.load(plain, weights_only=True), load_file(safe)
    assert list(weights) == list(resnet18(3, "cifar_stride2").state_dict())
    assert set(other) == set(weights)
    for name, value in weights.items():
        assert torch.equal(value, other[name])
        assert value.is_contiguous()
        assert value.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
    assert sorted(path.name for path in plain.parent.iterdir()) == ["backbone.pt", "backbone.safetensors"]  # nothing temporary
    assert torch.equal(weights["layer4.1.conv2.weight"], method.backbone.layer4[1].conv2.weight)


def test_export__is_float32_and_a_copy():
    """Weights in another precision are converted, and later training does not change what was taken."""
    backbone = resnet18(2, "cifar").to(torch.bfloat16)
    weights = backbone_weights(SimpleNamespace(backbone=backbone))
    before = weights["conv1.weight"].clone()
    with torch.no_grad():
        backbone.conv1.weight.zero_()
    assert torch.equal(weights["conv1.weight"], before)
    assert weights["conv1.weight"].dtype == torch.float32


def test_restore_backbone__computes_the_same_features(exported):
    """From the safetensors file alone come equal features of uint8 images, and the views and numbers of the metadata."""
    method, (_, safe) = exported
    trained = restore_backbone(safe)
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with frozen(method), frozen(trained.method):
        assert torch.equal(trained.method.features(images), method.features(images))
    assert (trained.name, trained.steps, trained.epochs, trained.has_views) == ("simclr", 7, 2, False)
    assert trained.configs.view.whole() == CropViews(size=16, eval_ratio=0.75).whole()
    assert trained.folder == safe.parent


def test_restore_backbone__refuses_other_files(tmp_path):
    """A missing file, one that is no safetensors file and one without metadata are named."""
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        restore_backbone(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("this is no such file")
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        restore_backbone(tmp_path / "text.safetensors")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"metadata are not those of `ffcv-ssl export`"):
        restore_backbone(tmp_path / "bare.safetensors")


def test_restore__says_what_is_wrong_with_a_folder(tmp_path):
    """Each of: no run, no YAML, no method, another method, an unknown option, a bad value and no checkpoint has its sentence."""
    recipe = SimpleNamespace(name="simclr", sections={"model": ModelConfig}, method=None)
    config = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match="no folder of a run"):
        read_run(tmp_path)
    config.write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_run(tmp_path)
    config.write_text("model: {}")
    with pytest.raises(ConfigError, match="names no method"):
        read_run(tmp_path)
    for content, sentence in (
        ({"method": "byol"}, "holds a run of byol, not of simclr"),
        ({"method": "simclr", "model": {"wdith": 3}}, r"sets model.wdith, which this version does not know"),
        ({"method": "simclr", "model": {"width": 0}}, "section model: width counts channels"),
    ):
        config.write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError, match=sentence):
            restore(tmp_path, recipe)
    config.write_text("method: simclr")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        restore(tmp_path, recipe)


def test_entries__replace_what_was_measured_before(tmp_path):
    """An entry takes the place of the one with equal identity; others stay in order; a broken file is not overwritten."""
    path = tmp_path / "probe.json"
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        put_entry(path, {"name": name, "value": value}, ("name",))
    assert read_entries(path) == [{"name": "b", "value": 2}, {"name": "a", "value": 3}]
    assert [file.name for file in tmp_path.iterdir()] == ["probe.json"]
    path.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        put_entry(path, {"name": "a"}, ("name",))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not a list"):
        put_entry(path, {"name": "a"}, ("name",))
