"""Residual networks with torchvision's parameter names, a CIFAR stem, and any width."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError

STEMS = ("imagenet", "cifar", "cifar_stride2")


class Conv2d(nn.Conv2d):
    """A convolution that avoids two faults of oneDNN, which torch 2.13 calls on CPUs.

    - With a stride over a map of one pixel the bfloat16 weight gradient reads uninitialised memory
      (CPUs with AVX512-BF16): now and then NaN. There a stride changes nothing, and is left out.
    - With a stride and a kernel of one pixel the weight gradient writes beyond its memory
      (`jit_avx2_1x1_convolution_bwd_weights_t`, CPUs with AVX2 and not AVX-512, channels last, a
      number of channels that is no multiple of 8): the process aborts. The input is subsampled first.
    """

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride
        if x.shape[-2:] == (1, 1):
            stride = (1, 1)
        elif self.kernel_size == (1, 1) and stride != (1, 1) and self.in_channels % 8:
            x, stride = x[..., :: stride[0], :: stride[1]], (1, 1)
        return F.conv2d(x, self.weight, self.bias, stride, self.padding)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18, -34)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride) and 1x1 convolutions and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + shortcut)


class ResNet(nn.Module):
    """A residual network without its classifier.

    Its `state_dict` has torchvision's names and, at width 64 with the ImageNet stem, torchvision's shapes (`fc.*` aside).

    Parameters
    ----------
    block
        `BasicBlock` or `Bottleneck`.
    depths
        Blocks in each of the four stages.
    width
        Channels of the first stage, >= 1; the other stages have 2, 4 and 8 times as many. 64 is the standard network.
    stem
        "imagenet": 7x7 convolution of stride 2 and max pooling; "cifar": 3x3 convolution of stride 1, no pooling;
        "cifar_stride2": the same of stride 2, a quarter of the arithmetic, for CPUs.

    Attributes
    ----------
    num_features
        Length D of a feature vector, 8 x width x expansion: 512 for ResNet-18, 2048 for ResNet-50.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; initialisation as in torchvision.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int], width: int = 64, stem: str = "imagenet"):
        super().__init__()
        if stem not in STEMS:
            raise ConfigError(f"no stem '{stem}'. Stems: {', '.join(STEMS)}.")
        if width < 1:
            raise ConfigError(f"width counts channels of the first stage, at least 1, got {width}.")
        if stem == "imagenet":
            self.conv1 = Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = conv3x3(3, width, stride=2 if stem == "cifar_stride2" else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1, channels = _stage(block, width, width, depths[0], stride=1)
        self.layer2, channels = _stage(block, channels, 2 * width, depths[1], stride=2)
        self.layer3, channels = _stage(block, channels, 4 * width, depths[2], stride=2)
        self.layer4, channels = _stage(block, channels, 8 * width, depths[3], stride=2)
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, D) features, averaged over the last feature map."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def _stage(block, in_channels: int, channels: int, depth: int, stride: int) -> tuple[nn.Sequential, int]:
    """The blocks of one stage, and how many channels leave it; only the first block strides."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))
    blocks = [block(in_channels, channels, stride, downsample)]
    blocks += [block(out_channels, channels, 1, None) for _ in range(depth - 1)]
    return nn.Sequential(*blocks), out_channels


def resnet18(width: int = 64, stem: str = "imagenet") -> ResNet:
    """ResNet-18: 512 features at width 64."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width, stem)


def resnet50(width: int = 64, stem: str = "imagenet") -> ResNet:
    """ResNet-50: 2048 features at width 64."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width, stem)


def resnet34(width: int = 64, stem: str = "imagenet") -> ResNet:
    """ResNet-34: 512 features at width 64."""
    return ResNet(BasicBlock, (3, 4, 6, 3), width, stem)


def resnet101(width: int = 64, stem: str = "imagenet") -> ResNet:
    """ResNet-101: 2048 features at width 64."""
    return ResNet(Bottleneck, (3, 4, 23, 3), width, stem)


TIMM = "timm:"  # what precedes a model's name in the timm library
# Name → builder of (width, stem). A builder put in here is a backbone that configurations can name; its result has `num_features`.
BACKBONES: dict[str, Callable[[int, str], nn.Module]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
}


def check_backbone_name(name: str) -> None:
    """Raise ConfigError unless `name` is in `BACKBONES` or begins with "timm:"."""
    if name not in BACKBONES and not name.startswith(TIMM):
        raise ConfigError(f"no backbone '{name}'. Backbones: {', '.join(BACKBONES)}, {TIMM}NAME.")


def backbone(name: str, width: int = 64, stem: str = "imagenet") -> nn.Module:
    """Build the backbone called `name`: one of `BACKBONES`, or "timm:NAME", a model of the timm library as it is.

    Returns
    -------
    Module that maps (N, 3, H, W) to (N, num_features).

    Raises
    ------
    ConfigError
        If there is no backbone of that name, or timm is not installed.
    """
    check_backbone_name(name)
    network = _timm_backbone(name.removeprefix(TIMM)) if name.startswith(TIMM) else BACKBONES[name](width, stem)
    if not isinstance(getattr(network, "num_features", None), int):
        raise ConfigError(f"the backbone '{name}' lacks num_features, the length of its feature vectors.")
    return network


def _timm_backbone(name: str) -> nn.Module:
    """A model of timm, untrained, without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"the backbone '{TIMM}{name}' needs the timm library: pip install 'ffcv_ssl[timm]'.") from error
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name}*")[:5])
        raise ConfigError(f"timm has no model '{name}'.{f' Close: {close}.' if close else ''}")
    network = timm.create_model(name, pretrained=False, num_classes=0)
    network.num_features = getattr(network, "head_hidden_size", None) or network.num_features  # some widen features behind the pooling
    return network
