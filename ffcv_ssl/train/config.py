"""Configuration of a training run: one frozen dataclass per section. A recipe may add sections."""

from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import BACKBONES, TIMM, check_backbone_name
from ffcv_ssl.system.paths import LocalPath


def option(help: str, default: Any = MISSING) -> Any:
    """Declare a dataclass field that is a command-line option.

    Parameters
    ----------
    help
        Text for `--help`: the meaning of the option, its unit and its range.
    default
        Default value. Without one, the option is required.

    Returns
    -------
    dataclasses.Field
        The field, with `help` in its metadata.
    """
    return field(default=default, metadata={"help": help})


def require(condition: bool, message: str) -> None:
    """Raise an error unless a condition holds.

    Parameters
    ----------
    condition
        Condition to check.
    message
        Text of the error.

    Raises
    ------
    ConfigError
        If `condition` is false.
    """
    if not condition:
        raise ConfigError(message)


def read_unset(config: Any, **values: Any) -> None:
    """Replace the value that earlier versions wrote for "not set" by None, for each option."""
    for name, value in values.items():
        if getattr(config, name) == value:
            object.__setattr__(config, name, None)


def at_least(config: Any, low: float, *names: str) -> None:
    """Raise ConfigError unless each of the options is None or at least `low`."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value >= low, f"{name} must be at least {low}, got {value}.")


@dataclass(frozen=True)
class DataConfig:
    """Files to train and evaluate on."""

    train: LocalPath = option(
        "The .beton file to train on. Evaluation, probes and supervised training use its labels"
    )
    val: LocalPath | None = option("The .beton file to evaluate on; none: no evaluation", None)
    image: str = option("Name of the image field", "image")
    label: str = option(
        "Name of the label field, which holds integers. The classes are the labels that occur",
        "label",
    )
    workers: int = option(
        "Number of loader threads. -1 uses every core available to the process (divided among the "
        "processes under torchrun); 0 runs in the training thread",
        -1,
    )
    fraction: float = option(
        "Fraction of the training images to train on, in (0, 1], selected with train.seed. "
        "The evaluation uses all of them",
        1.0,
    )
    cache: Literal["os", "ram", "device", "auto"] = option(
        "Where the loader keeps decoded images between epochs. os: nowhere; ram: in memory; "
        "device: on the GPU (needs data.render=gpu); auto: on the GPU or in memory if they fit",
        "os",
    )
    render: Literal["cpu", "gpu"] = option("Device that renders the views", "cpu")

    def __post_init__(self) -> None:
        read_unset(self, val="")
        require(0 < self.fraction <= 1, f"fraction must be in (0, 1], got {self.fraction}.")


@dataclass(frozen=True)
class ModelConfig:
    """Backbone and its input."""

    backbone: str = option(
        f"Architecture: {', '.join(BACKBONES)}, or {TIMM}NAME for a model of the timm library",
        "resnet18",
    )
    width: int = option(
        "Channels of the first stage, >= 1. 64 gives the published network; 16 suits a CPU", 64
    )
    stem: Literal["imagenet", "cifar", "cifar_stride2"] = option(
        "First layers. imagenet: 7x7 convolution of stride 2 and max pooling; cifar: 3x3 "
        "convolution of stride 1; cifar_stride2: 3x3 convolution of stride 2, for CPUs",
        "cifar",
    )
    normalization: Literal["half", "unit", "cifar10", "imagenet"] = option(
        "Mean and standard deviation of the input. half: 0.5 and 0.5; unit: 0 and 1; cifar10, "
        "imagenet: those of the data set",
        "half",
    )
    views_per_forward: int | None = option(
        "Number of views of each image in one forward pass, which share batch-normalization "
        "statistics, >= 1; none: all",
        None,
    )
    images_per_forward: int | None = option(
        "Number of images per process in one forward pass, which share batch-normalization "
        "statistics, >= 1; none: all",
        None,
    )

    def __post_init__(self) -> None:
        read_unset(self, views_per_forward=0, images_per_forward=0)
        check_backbone_name(self.backbone)
        for name in ("width", "stem") if self.backbone.startswith(TIMM) else ():
            default = getattr(type(self), name)
            require(
                getattr(self, name) == default,
                f"{self.backbone} has a fixed {name}: leave {name} at {default}, which is ignored.",
            )
        at_least(self, 1, "width", "views_per_forward", "images_per_forward")


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "lars", "adam", "adamw"] = option("Optimizer")
    lr: float = option("Peak learning rate, > 0")
    scale_lr: bool = option("Multiply optim.lr by train.batch_size / 256", False)
    momentum: float = option("Momentum of sgd and lars, in [0, 1)", 0.9)
    nesterov: bool = option("Use Nesterov momentum in sgd and lars", False)
    weight_decay: float = option("Weight decay, >= 0", 0.0)
    exclude_1d: bool = option(
        "Exclude biases and normalization parameters from weight decay and from the layer-wise "
        "adaptation of lars",
        True,
    )
    eta: float = option("Trust coefficient of lars, > 0", 0.001)
    clip: bool = option(
        "Use clipped lars (EMP-SSL, solo-learn): the layer-wise rate is min(trust ratio, lr) "
        "instead of trust ratio * lr",
        False,
    )
    warmup: float = option(
        "Fraction of the training during which the learning rate rises linearly from 0, in [0, 1)",
        0.0,
    )
    final: float = option(
        "Final learning rate of the cosine schedule, as a fraction of optim.lr, in [0, 1]", 0.0
    )

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be positive, got {self.lr}.")
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum}.")
        require(not self.nesterov or self.momentum > 0, "nesterov needs a momentum above 0.")
        at_least(self, 0, "weight_decay")
        require(self.eta > 0, f"eta must be positive, got {self.eta}.")
        require(0 <= self.warmup < 1, f"warmup must be in [0, 1), got {self.warmup}.")
        require(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final}.")


@dataclass(frozen=True)
class TrainConfig:
    """Length, batch size, device and checkpoints of the training."""

    epochs: int = option("Number of passes over the training file, >= 1")
    batch_size: int = option("Number of images per step, summed over all processes, >= 2")
    minutes: float | None = option(
        "Time limit in minutes of training, evaluation not counted. The training ends at "
        "train.epochs or at this limit, whichever comes first; none: no limit",
        None,
    )
    seed: int = option("Random seed for weights, sample order and augmentation, >= 0", 0)
    device: str = option(
        "Device: auto, cpu, cuda or cuda:N. Under torchrun, auto and cuda give each process "
        "its own GPU",
        "auto",
    )
    threads: int | None = option(
        "Number of CPU threads of torch, 1 to 4096; none: chosen by torch, usually all cores", None
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "Precision of the network's arithmetic; losses are always float32. auto: bfloat16 where "
        "the device has instructions for it, else float16 on a GPU and float32 on a CPU",
        "auto",
    )
    sync_batch_norm: bool = option(
        "Under torchrun, compute batch-normalization statistics over all processes instead of "
        "within each (GPUs only)",
        False,
    )
    compile: Literal["no", "default", "reduce-overhead", "max-autotune-no-cudagraphs"] = option(
        "Mode of torch.compile for the backbone, which is compiled in the first step. "
        "reduce-overhead records CUDA graphs",
        "no",
    )
    recompute: bool = option(
        "Discard the activations of each forward pass and recompute them in the backward pass. "
        "This needs less memory and more time; the gradients are the same",
        False,
    )
    keep: str = option(
        "Epochs, separated by commas, after which the weights are kept as epoch_N.pt. "
        "`ffcv-ssl probe RUN --run.epoch=N` evaluates them",
        "",
    )
    checkpoint_minutes: float = option(
        "Minimum time in minutes between two checkpoints, >= 0; 0: one after every step", 5.0
    )
    resume: Literal[False, True, "extend"] = option(
        "Continue from the checkpoint in log.out, if there is one. extend: continue a finished "
        "run, too, with other train.epochs or train.minutes",
        False,
    )

    def __post_init__(self) -> None:
        read_unset(self, minutes=0, threads=0)
        at_least(self, 1, "epochs")
        at_least(self, 2, "batch_size")
        at_least(self, 0, "minutes", "checkpoint_minutes")
        is_valid = self.threads is None or 1 <= self.threads <= 4096
        require(is_valid, f"threads must be between 1 and 4096, got {self.threads}.")
        require(0 <= self.seed < 1 << 62, f"seed must be in 0..2**62 - 1, got {self.seed}.")
        are_numbers = all(word.strip().isdigit() for word in self.keep.split(",") if self.keep)
        require(are_numbers, f"keep must list epochs separated by commas, got '{self.keep}'.")

    @property
    def kept_epochs(self) -> set[int]:
        """Epochs that `keep` lists."""
        return {int(word) for word in self.keep.split(",") if self.keep}


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation of frozen features of whole images: cosine kNN and classifiers."""

    times: int = option(
        "Number of kNN evaluations during the training, evenly spaced, the first of the untrained "
        "network; 0: only at the end",
        0,
    )
    batch_size: int = option("Number of images per forward pass, >= 1", 500)
    train_images: int | None = option(
        "Number of random training images that kNN and classifiers use, >= 1; none: all", None
    )
    k: int = option("Number of neighbors in the kNN vote, >= 1", 20)
    temperature: float = option(
        "Temperature of the kNN weights exp(cosine / temperature), > 0", 0.07
    )
    linear_epochs: int = option("Epochs of the linear classifier, >= 0; 0: no such classifier", 100)
    mlp_epochs: int = option(
        "Epochs of the classifier with one hidden layer of width 2048, >= 0; 0: no such classifier",
        0,
    )

    def __post_init__(self) -> None:
        read_unset(self, train_images=0)
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature}.")
        at_least(self, 0, "times", "linear_epochs", "mlp_epochs")
        at_least(self, 1, "batch_size", "train_images", "k")


@dataclass(frozen=True)
class LogConfig:
    """Output folder and logging."""

    out: LocalPath = option(
        "Folder of the run: config.yaml, checkpoint.pt, train.csv, eval.csv, curves.png, "
        "result.json"
    )
    every: int = option("Number of steps between two rows of train.csv, >= 1", 10)
    tensorboard: bool = option("Write TensorBoard events to log.out", True)
    progress: bool = option("Show a progress bar (only on a terminal)", True)
    wandb: bool = option("Log to Weights & Biases; needs `pip install wandb`", False)
    wandb_project: str = option("Name of the Weights & Biases project", "ffcv_ssl")

    def __post_init__(self) -> None:
        at_least(self, 1, "every")
