"""What a training run is configured by: one frozen dataclass per section; methods add their own in their recipe."""

from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import BACKBONES, TIMM, check_backbone_name
from ffcv_ssl.system.paths import LocalPath

NORMALIZATIONS = {  # mean and standard deviation per channel, on the 0..255 scale
    "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "cifar10": ((125.31, 122.95, 113.87), (62.99, 62.09, 66.70)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


def option(help: str, default: Any = MISSING) -> Any:
    """A dataclass field with its help text; without a default it must be given."""
    return field(default=default, metadata={"help": help})


def require(condition: bool, message: str) -> None:
    """Raise ConfigError(message) unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def read_unset(config: Any, **values: Any) -> None:
    """Turn what earlier versions wrote for "not set" into None: for each option the value that meant it."""
    for name, value in values.items():
        if getattr(config, name) == value:
            object.__setattr__(config, name, None)


def at_least(config: Any, low: float, *names: str) -> None:
    """Raise ConfigError unless each of the options is at least `low`, or not set."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value >= low, f"{name} is at least {low}, got {value}.")


@dataclass(frozen=True)
class DataConfig:
    """Which files to train and evaluate on."""

    train: LocalPath = option("the .beton file to train on; its labels serve evaluation, probes and supervised training")
    val: LocalPath | None = option("the .beton file to evaluate on; none: no evaluation", None)
    image: str = option("name of the image field", "image")
    label: str = option("name of the label field, integers; classes are the labels that occur", "label")
    workers: int = option("threads of the loader; -1: one per core (shared under torchrun), 0: none beside the training's own", -1)
    fraction: float = option("share of the training images to train on, in (0, 1], drawn with train.seed; evaluation uses them all", 1.0)
    cache: Literal["os", "ram", "device", "auto"] = option(
        "where decoded images stay between epochs: os nowhere, ram in memory, device on the GPU (needs render=gpu)", "os"
    )
    render: Literal["cpu", "gpu"] = option("what renders the views", "cpu")

    def __post_init__(self):
        read_unset(self, val="")
        require(0 < self.fraction <= 1, f"fraction is a share in (0, 1], got {self.fraction}.")


@dataclass(frozen=True)
class ModelConfig:
    """The backbone, and what it is fed."""

    backbone: str = option(f"architecture: {', '.join(BACKBONES)}, or {TIMM}NAME, a model of the timm library", "resnet18")
    width: int = option("channels of the first stage, >= 1; 64 is the published network, 16 suits a CPU", 64)
    stem: Literal["imagenet", "cifar", "cifar_stride2"] = option(
        "first layers: imagenet 7x7 of stride 2 and pooling; cifar 3x3 of stride 1; cifar_stride2 3x3 of stride 2, for CPUs", "cifar"
    )
    normalization: Literal["half", "unit", "cifar10", "imagenet"] = option(
        "mean and deviation of the input: half .5/.5, unit 0/1, or those of the data set", "half"
    )
    views_per_forward: int | None = option("views of each image that share batch-normalization statistics; none: all", None)
    images_per_forward: int | None = option(
        "images, of each process, that share a forward pass and its batch-normalization statistics; none: all", None
    )

    def __post_init__(self):
        read_unset(self, views_per_forward=0, images_per_forward=0)
        check_backbone_name(self.backbone)
        for name in ("width", "stem") if self.backbone.startswith(TIMM) else ():
            default = getattr(type(self), name)
            require(getattr(self, name) == default, f"{self.backbone} has its own {name}: leave {name} at {default}, which is then unused.")
        require(self.width >= 1, f"width counts channels, at least 1, got {self.width}.")
        at_least(self, 1, "views_per_forward", "images_per_forward")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate over time."""

    name: Literal["sgd", "lars", "adam", "adamw"] = option("optimizer")
    lr: float = option("learning rate at its highest, > 0")
    scale_lr: bool = option("multiply lr by batch size / 256", False)
    momentum: float = option("momentum of sgd and lars, in [0, 1)", 0.9)
    nesterov: bool = option("Nesterov momentum, for sgd and lars", False)
    weight_decay: float = option("weight decay, >= 0", 0.0)
    exclude_1d: bool = option("spare biases and normalization from weight decay (and, in lars, from adaptation)", True)
    eta: float = option("trust coefficient of lars, > 0", 0.001)
    clip: bool = option("lars as in EMP-SSL: the learning rate is a ceiling of the trust, not a factor", False)
    warmup: float = option("share of the training during which the rate rises linearly from 0, in [0, 1)", 0.0)
    final: float = option("share of lr at which the cosine ends, in [0, 1]", 0.0)

    def __post_init__(self):
        require(self.lr > 0, f"lr must be positive, got {self.lr}.")
        require(0 <= self.momentum < 1, f"momentum lies in [0, 1), got {self.momentum}.")
        require(not self.nesterov or self.momentum > 0, "nesterov needs a momentum above 0.")
        require(self.weight_decay >= 0, f"weight_decay is at least 0, got {self.weight_decay}.")
        require(self.eta > 0, f"eta must be positive, got {self.eta}.")
        require(0 <= self.warmup < 1, f"warmup is a share of the training in [0, 1), got {self.warmup}.")
        require(0 <= self.final <= 1, f"final is a share of lr in [0, 1], got {self.final}.")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how much at once, and where."""

    epochs: int = option("passes over the training file, >= 1")
    batch_size: int = option("images per step, of all processes together, >= 2")
    minutes: float | None = option(
        "stop after so many minutes of training, evaluation not counted, if that is sooner; none: no limit", None
    )
    seed: int = option("of initial weights, order and augmentation, >= 0", 0)
    device: str = option("auto, cpu, cuda or cuda:N; under torchrun auto and cuda give each process its own GPU", "auto")
    threads: int | None = option("CPU threads of torch; none: torch's own choice, all cores", None)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "of the network's arithmetic (losses are always float32); auto: bfloat16 where the device computes in it, else float16 on a GPU "
        "and float32 on a CPU",
        "auto",
    )
    sync_batch_norm: bool = option(
        "under torchrun, batch-normalization statistics over all processes instead of within each; GPUs only", False
    )
    compile: Literal["no", "default", "reduce-overhead", "max-autotune-no-cudagraphs"] = option(
        "of the backbone, by torch.compile in this mode, within the first step; reduce-overhead records CUDA graphs", "no"
    )
    recompute: bool = option(
        "forget the activations of each pass and compute them again in the backward pass: less memory, more time, the same gradients",
        False,
    )
    keep: str = option("epochs after which weights are kept as epoch_N.pt, with commas between; ffcv-ssl probe RUN --run.epoch=N", "")
    checkpoint_minutes: float = option("least time between two checkpoints in a run; 0: one after every step", 5.0)
    resume: Literal[False, True, "extend"] = option(
        "go on from the checkpoint in log.out, if there is one; extend: also if the run is finished, with other epochs or minutes", False
    )

    def __post_init__(self):
        read_unset(self, minutes=0, threads=0)
        require(self.epochs >= 1, f"epochs is at least 1, got {self.epochs}.")
        require(self.batch_size >= 2, f"batch_size is at least 2, got {self.batch_size}.")
        at_least(self, 0, "minutes")
        require(self.threads is None or 1 <= self.threads <= 4096, f"threads is 1 to 4096, got {self.threads}.")
        require(0 <= self.seed < 1 << 62, f"seed is 0 to 2**62 - 1, got {self.seed}.")
        require(all(word.strip().isdigit() for word in self.keep.split(",") if self.keep), f"keep lists epochs, got '{self.keep}'.")
        require(self.checkpoint_minutes >= 0, f"checkpoint_minutes is at least 0, got {self.checkpoint_minutes}.")

    @property
    def kept_epochs(self) -> set[int]:
        """The epochs that `keep` lists."""
        return {int(word) for word in self.keep.split(",") if self.keep}


@dataclass(frozen=True)
class EvalConfig:
    """How frozen features are judged: cosine kNN and a linear classifier on whole images."""

    times: int = option("kNN evaluations during training, evenly spaced from the untrained network on; 0: only at the end", 0)
    batch_size: int = option("images per forward pass, >= 1", 500)
    train_images: int | None = option("training images that kNN and classifiers learn from, drawn at random; none: all", None)
    k: int = option("neighbours of the kNN vote, >= 1", 20)
    temperature: float = option("of the kNN vote's weights exp(cosine / temperature), > 0", 0.07)
    linear_epochs: int = option("epochs of the linear classifier; 0: none", 100)
    mlp_epochs: int = option("epochs of a classifier with one hidden layer of 2048; 0: none", 0)

    def __post_init__(self):
        read_unset(self, train_images=0)
        require(self.times >= 0, f"times is at least 0, got {self.times}.")
        require(self.batch_size >= 1, f"batch_size is at least 1, got {self.batch_size}.")
        at_least(self, 1, "train_images")
        require(self.k >= 1, f"k is at least 1, got {self.k}.")
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature}.")
        require(self.linear_epochs >= 0, f"linear_epochs is at least 0, got {self.linear_epochs}.")
        require(self.mlp_epochs >= 0, f"mlp_epochs is at least 0, got {self.mlp_epochs}.")


@dataclass(frozen=True)
class LogConfig:
    """Where results go, and how often they are written."""

    out: LocalPath = option("folder of the run: config.yaml, checkpoint.pt, train.csv, eval.csv, curves.png, result.json")
    every: int = option("steps between two rows of train.csv, >= 1", 10)
    tensorboard: bool = option("also write TensorBoard events to log.out", True)
    progress: bool = option("show a progress bar (only on a terminal)", True)
    wandb: bool = option("also log to Weights & Biases; needs `pip install wandb`", False)
    wandb_project: str = option("name of the project there", "ffcv_ssl")

    def __post_init__(self):
        require(self.every >= 1, f"every is at least 1, got {self.every}.")
