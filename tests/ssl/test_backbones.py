"""Names, shapes and sizes of the residual networks."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import BACKBONES, backbone, resnet18, resnet34, resnet50, resnet101
from ffcv_ssl.ssl.resnet import Conv2d

TORCHVISION = Path(__file__).parent / "torchvision_names.txt"

BFLOAT16_GRADIENTS = """
import torch
from ffcv_ssl.ssl import resnet18
torch.set_num_threads(1)
for _ in range(5):
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar_stride2").to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.randn(16, 3, 8, 8)).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
"""


def test_resnet18__has_torchvisions_parameters():
    """Without `fc`, torchvision's ResNet-18 has 11,176,512 parameters and 120 entries."""
    network = resnet18()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000
    assert len(state) == 122 - 2
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
    }.items():
        assert state[name].shape == shape


def test_resnet50__has_torchvisions_parameters():
    """Without `fc`, torchvision's ResNet-50 has 23,508,032 parameters."""
    network = resnet50()
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - 2_049_000
    state = network.state_dict()
    assert state["layer3.5.conv3.weight"].shape == (1024, 256, 1, 1)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert "layer1.1.downsample.0.weight" not in state


@pytest.mark.parametrize(("build", "name"), [(resnet18, "resnet18"), (resnet50, "resnet50")])
def test_resnet__state_dict_is_torchvisions(build, name):
    """Names and shapes equal the stored list of torchvision's state_dict, except for `fc`."""
    lines = [
        line.split() for line in TORCHVISION.read_text().splitlines() if line.startswith(f"{name} ")
    ]
    expected = {
        entry: tuple(map(int, shape.split("x"))) if shape != "-" else ()
        for _, entry, shape in lines
        if not entry.startswith("fc.")
    }
    assert {entry: tuple(value.shape) for entry, value in build().state_dict().items()} == expected


def test_resnet34_and_101__have_torchvisions_sizes():
    """Without `fc`, torchvision's networks have 21,284,672 and 42,500,160 parameters."""
    assert sum(p.numel() for p in resnet34().parameters()) == 21_797_672 - 513_000
    assert sum(p.numel() for p in resnet101().parameters()) == 44_549_160 - 2_049_000


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar", "cifar_stride2"])
def test_backbone__returns_num_features(name, stem):
    """Images of any size give one finite vector of num_features values."""
    network = backbone(name, width=4, stem=stem)
    features = network(torch.randn(3, 3, 33, 40))
    assert features.shape == (3, network.num_features)
    assert features.isfinite().all()


def test_backbone__stems_differ_in_stride():
    """The stems cifar, cifar_stride2 and imagenet map 32x32 images to 4x4, 2x2 and 1x1."""
    sides = {}
    for stem in ("cifar", "cifar_stride2", "imagenet"):
        network = resnet18(width=2, stem=stem).eval()
        network.layer4.register_forward_hook(
            lambda _module, _inputs, out, stem=stem: sides.update({stem: out.shape[-1]})
        )
        network(torch.zeros(1, 3, 32, 32))
    assert sides == {"cifar": 4, "cifar_stride2": 2, "imagenet": 1}


def test_backbone__refuses_unknown_names():
    """An unknown backbone or stem, or a bad width, raises a ConfigError with the choices."""
    with pytest.raises(ConfigError, match="resnet18"):
        backbone("resnet19")
    with pytest.raises(ConfigError, match="cifar_stride2"):
        backbone("resnet18", stem="tiny")
    with pytest.raises(ConfigError, match="width"):
        backbone("resnet18", width=0)


def test_backbone__bfloat16_gradients_are_finite_on_tiny_views():
    """Gradients on a 1x1 map do not depend on uninitialized memory (here filled with 0x7E)."""
    environment = {**os.environ, "MALLOC_PERTURB_": "129"}
    done = subprocess.run(
        [sys.executable, "-c", BFLOAT16_GRADIENTS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def fake_timm(num_features, **more):
    """Return a stand-in for the module timm, with one model."""

    def create_model(name, pretrained, num_classes):
        assert (pretrained, num_classes) == (False, 0)
        network = torch.nn.Flatten()
        network.num_features = num_features
        for attribute, value in more.items():
            setattr(network, attribute, value)
        return network

    known = {
        "is_model": lambda name: name == "tiny",
        "list_models": lambda pattern: ["tiny"] if pattern == "*tin*" else [],
    }
    return types.SimpleNamespace(create_model=create_model, **known)


def test_backbone__takes_models_of_timm(monkeypatch):
    """timm:NAME builds the model without its classifier; unknown names list similar ones."""
    monkeypatch.setitem(sys.modules, "timm", fake_timm(48))
    assert backbone("timm:tiny").num_features == 48
    monkeypatch.setitem(sys.modules, "timm", fake_timm(48, head_hidden_size=96))
    assert backbone("timm:tiny").num_features == 96
    with pytest.raises(ConfigError, match=r"timm has no model 'tin'. Close: tiny."):
        backbone("timm:tin")


def test_backbone__names_the_extra_when_timm_is_missing(monkeypatch):
    """Without timm the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'ffcv_ssl\[timm\]'"):
        backbone("timm:resnet18")


def test_backbones__accept_registered_builders(monkeypatch):
    """A builder registered in BACKBONES can be named; without num_features it is refused."""
    mine = torch.nn.Flatten()
    monkeypatch.setitem(BACKBONES, "mine", lambda width, stem: mine)
    with pytest.raises(ConfigError, match="'mine' lacks num_features"):
        backbone("mine")
    mine.num_features = 12
    assert backbone("mine") is mine


@pytest.mark.parametrize("channels", [3, 4, 5, 8, 12])
def test_conv2d__strided_with_one_pixel_is_exact_and_safe(channels):
    """Values and gradients equal those of the subsampled input; torch's convolution may abort."""
    torch.manual_seed(0)
    convolution = Conv2d(channels, 8, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
    images = torch.randn(32, channels, 8, 8).contiguous(memory_format=torch.channels_last)
    for _ in range(30):
        found = convolution(images)
        (gradient,) = torch.autograd.grad((found * found).sum(), convolution.weight)
    expected = torch.einsum("nchw,oc->nohw", images[..., ::2, ::2], convolution.weight[..., 0, 0])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradient[..., 0, 0],
        2 * torch.einsum("nohw,nchw->oc", expected, images[..., ::2, ::2]),
        rtol=1e-4,
        atol=1e-3,
    )
