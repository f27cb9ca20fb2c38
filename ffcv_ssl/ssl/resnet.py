"""Residual networks with torchvision's parameter names, CIFAR stems and any width."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError

STEMS = ("imagenet", "cifar", "cifar_stride2")


class Conv2d(nn.Conv2d):
    """Convolution that avoids two faults of oneDNN, the CPU backend of torch 2.13.

    - Stride above 1 on a 1x1 map: the bfloat16 weight gradient reads uninitialized memory and is
      sometimes NaN (CPUs with AVX512-BF16). On such a map the stride has no effect, so `forward`
      uses stride 1.
    - Stride above 1 with a 1x1 kernel: the weight gradient writes out of bounds and the process
      aborts. The fault is in `jit_avx2_1x1_convolution_bwd_weights_t`; it needs a CPU with AVX2 but
      not AVX-512, channels-last memory order, and a number of input channels that is not a multiple
      of 8. `forward` subsamples the input and uses stride 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), as `torch.nn.Conv2d` does."""
        stride = self.stride
        if x.shape[-2:] == (1, 1):
            stride = (1, 1)
        elif self.kernel_size == (1, 1) and stride != (1, 1) and self.in_channels % 8:
            x, stride = x[..., :: stride[0], :: stride[1]], (1, 1)
        return F.conv2d(x, self.weight, self.bias, stride, self.padding)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    """Build a 3x3 convolution with padding 1 and no bias."""
    return Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    """Build a 1x1 convolution without bias."""
    return Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and -34).

    Parameters
    ----------
    in_channels
        Number of input channels.
    channels
        Number of channels of both convolutions and of the output.
    stride
        Stride of the first convolution.
    downsample
        Module that maps the input to the shape of the output; None for an identity shortcut.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = self.relu(out + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet-50 and deeper).

    The 3x3 convolution has the stride, as in torchvision ("ResNet v1.5"). It takes the
    parameters of `BasicBlock`; its output has four times as many channels as the 3x3 convolution.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None
    ) -> None:
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
        """Map (N, in_channels, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out = self.relu(out + shortcut)
        return out


class ResNet(nn.Module):
    """Residual network without its classifier.

    The `state_dict` has torchvision's names and, with width 64 and the ImageNet stem, torchvision's
    shapes, except for the missing `fc.*`.

    Parameters
    ----------
    block
        `BasicBlock` or `Bottleneck`.
    depths
        Number of blocks in each of the four stages.
    width
        Number of channels of the first stage, >= 1. The other stages have 2, 4 and 8 times as many.
        The standard networks have width 64.
    stem
        "imagenet": 7x7 convolution with stride 2, then max pooling. "cifar": 3x3 convolution with
        stride 1, no pooling. "cifar_stride2": 3x3 convolution with stride 2, no pooling; a quarter
        of the arithmetic of "cifar", for training on CPUs.

    Attributes
    ----------
    num_features
        Length D of a feature vector, 8 * width * expansion: 512 for ResNet-18, 2048 for ResNet-50.

    Raises
    ------
    ConfigError
        If `stem` is unknown or `width` is below 1.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1.
    The initialization is torchvision's.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: int = 64,
        stem: str = "imagenet",
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ConfigError(f"no stem '{stem}'. Stems: {', '.join(STEMS)}.")
        if width < 1:
            raise ConfigError(
                f"width is the number of channels of the first stage and must be >= 1, got {width}."
            )
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
        """Map (N, 3, H, W) images to (N, D) features, the spatial mean of the last feature map."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
) -> tuple[nn.Sequential, int]:
    """Build one stage, whose first block has the stride; return it and its output channels."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        )
    blocks = [block(in_channels, channels, stride, downsample)]
    blocks += [block(out_channels, channels, 1, None) for _ in range(depth - 1)]
    return nn.Sequential(*blocks), out_channels


def resnet18(width: int = 64, stem: str = "imagenet") -> ResNet:
    """Build a ResNet-18 without classifier.

    Parameters
    ----------
    width
        Number of channels of the first stage, >= 1.
    stem
        "imagenet", "cifar" or "cifar_stride2"; see `ResNet`.

    Returns
    -------
    Network that maps (N, 3, H, W) images to (N, 8 * width) features.

    Raises
    ------
    ConfigError
        If `stem` is unknown or `width` is below 1.

    Examples
    --------
    >>> import torch
    >>> network = resnet18(width=8, stem="cifar")
    >>> network.num_features
    64
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 64])
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), width, stem)


def resnet34(width: int = 64, stem: str = "imagenet") -> ResNet:
    """Build a ResNet-34 without classifier.

    Parameters
    ----------
    width
        Number of channels of the first stage, >= 1.
    stem
        "imagenet", "cifar" or "cifar_stride2"; see `ResNet`.

    Returns
    -------
    Network that maps (N, 3, H, W) images to (N, 8 * width) features.

    Raises
    ------
    ConfigError
        If `stem` is unknown or `width` is below 1.
    """
    return ResNet(BasicBlock, (3, 4, 6, 3), width, stem)


def resnet50(width: int = 64, stem: str = "imagenet") -> ResNet:
    """Build a ResNet-50 without classifier.

    Parameters
    ----------
    width
        Number of channels of the first stage's 3x3 convolutions, >= 1.
    stem
        "imagenet", "cifar" or "cifar_stride2"; see `ResNet`.

    Returns
    -------
    Network that maps (N, 3, H, W) images to (N, 32 * width) features.

    Raises
    ------
    ConfigError
        If `stem` is unknown or `width` is below 1.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), width, stem)


def resnet101(width: int = 64, stem: str = "imagenet") -> ResNet:
    """Build a ResNet-101 without classifier.

    Parameters
    ----------
    width
        Number of channels of the first stage's 3x3 convolutions, >= 1.
    stem
        "imagenet", "cifar" or "cifar_stride2"; see `ResNet`.

    Returns
    -------
    Network that maps (N, 3, H, W) images to (N, 32 * width) features.

    Raises
    ------
    ConfigError
        If `stem` is unknown or `width` is below 1.
    """
    return ResNet(Bottleneck, (3, 4, 23, 3), width, stem)
