"""Options of `ffcv-ssl bench` and `benchmarks/bench.py`."""

from dataclasses import dataclass, field
from typing import Any

from ffcv_ssl.benchmarks.workloads import GROUPS, WORKLOADS, Epochs
from ffcv_ssl.system.paths import LocalPath

DECODES = ("full", "fast")
EVERYTHING = "all"


def _option(help_text: str, default: Any, **more: Any) -> Any:
    """Declare an option with its help text."""
    return field(default=default, metadata={"help": help_text, **more})


@dataclass(frozen=True)
class DataConfig:
    """Images that the contestants load."""

    path: LocalPath | None = _option(
        "A .beton file with an image field, or a folder of JPEGs. none: use drawn images.",
        None,
        positional="FILE",
    )
    patches: LocalPath | None = _option(
        "An .npz file with (N, 32, 32, 3) uint8 images, or a .beton file with such images. "
        "none: use drawn images.",
        None,
    )
    images: int = _option("Maximum number of images to store (>= 1).", 512)
    patch_images: int = _option("Maximum number of small images to store (>= 1).", 2000)

    def __post_init__(self) -> None:
        if min(self.images, self.patch_images) < 1:
            raise ValueError(
                "required: images >= 1 and patch_images >= 1; "
                f"got images={self.images}, patch_images={self.patch_images}."
            )


@dataclass(frozen=True)
class RunConfig:
    """Measurements to make."""

    workloads: str = _option(
        f"Comma-separated workloads, or {EVERYTHING}: {', '.join(WORKLOADS)}. "
        "ladder selects every ladder_ workload.",
        EVERYTHING,
    )
    repeats: int = _option(
        "Timed epochs per contestant (>= 1). Use at least 5 for numbers to publish.", 5
    )
    epoch_images: int = _option(
        "Minimum number of images per epoch (>= 1). Each stored image appears equally often.", 4000
    )
    epoch_s: float = _option("Seconds after which an epoch ends early (> 0).", 5.0)
    workers: int = _option(
        "Threads or worker processes per contestant. "
        "-1: one for each core available to this process.",
        -1,
    )
    decode: str = _option(
        "Additional ffcv_ssl rows with these decode= values, comma-separated: full, fast. "
        "Empty: none.",
        "",
    )
    extras: str = _option(
        "Additional measurements, comma-separated: first_batch, memory, scaling; or all, or none.",
        "none",
    )
    epochs: int = _option("Epochs of the memory measurement (>= 2).", 20)
    timeout_s: float = _option(
        "Time limit for each reply of a contestant, in seconds. FFCV-SSL compiles for minutes.",
        900.0,
    )
    keep: bool = _option("Keep results in the JSON file that this run does not replace.", False)
    out: LocalPath = _option(
        "JSON file for all times. The chart gets the same name with .png.",
        "bench.json",
        alias="--out",
    )

    def __post_init__(self) -> None:
        if (
            self.repeats < 1
            or self.epochs < 2
            or self.timeout_s <= 0
            or self.workers < -1
            or self.workers == 0
        ):
            raise ValueError(
                "required: repeats >= 1, epochs >= 2, timeout_s > 0, and workers -1 or >= 1; "
                f"got repeats={self.repeats}, epochs={self.epochs}, timeout_s={self.timeout_s}, "
                f"workers={self.workers}."
            )
        if self.epoch_images < 1 or self.epoch_s <= 0:
            raise ValueError(
                "required: epoch_images >= 1 and epoch_s > 0; "
                f"got epoch_images={self.epoch_images}, epoch_s={self.epoch_s}."
            )
        self.workload_names()
        _choices("decode", self.decode, DECODES)
        self.extra_names()

    def measured_epochs(self) -> Epochs:
        """Return the number of epochs and their length."""
        return Epochs(self.repeats, self.epoch_images, self.epoch_s)

    def workload_names(self) -> list[str]:
        """Return the selected workloads in their order of definition."""
        chosen = _choices("workloads", self.workloads, (EVERYTHING, "none", *GROUPS, *WORKLOADS))
        wanted = (
            set(WORKLOADS)
            if EVERYTHING in chosen
            else {name for choice in chosen for name in GROUPS.get(choice, (choice,))}
        )
        return [name for name in WORKLOADS if name in wanted]

    def decode_options(self) -> list[str]:
        """Return the `decode=` values that get rows of their own."""
        return _choices("decode", self.decode, DECODES)

    def extra_names(self) -> list[str]:
        """Return the selected additional measurements."""
        known = ("first_batch", "memory", "scaling")
        chosen = _choices("extras", self.extras, ("none", EVERYTHING, *known))
        return [name for name in known if name in chosen or EVERYTHING in chosen]


@dataclass(frozen=True)
class PeerConfig:
    """Peers and their Python interpreters.

    An interpreter that is none is the running one. A peer that its interpreter lacks is reported as
    absent.
    """

    only: str = _option(
        "Comma-separated peers: ffcv, ffcv_ssl_fb, dali, torchvision, pillow; or all, or none.",
        EVERYTHING,
    )
    ffcv_python: LocalPath | None = _option(
        "Python with FFCV 1.0.2.", None, alias="--peer.ffcv.python"
    )
    ffcv_ssl_fb_python: LocalPath | None = _option(
        "Python with FFCV-SSL, built from a checkout.", None, alias="--peer.ffcv_ssl_fb.python"
    )
    dali_python: LocalPath | None = _option("Python with DALI.", None, alias="--peer.dali.python")
    torchvision_python: LocalPath | None = _option(
        "Python with torchvision and torch.", None, alias="--peer.torchvision.python"
    )
    pillow_python: LocalPath | None = _option(
        "Python with Pillow and torch.", None, alias="--peer.pillow.python"
    )

    def __post_init__(self) -> None:
        self.names()

    def names(self) -> list[str]:
        """Return the selected peers."""
        chosen = _choices("only", self.only, ("none", EVERYTHING, *PEERS))
        return [name for name in PEERS if name in chosen or EVERYTHING in chosen]

    def pythons(self) -> dict[str, str | None]:
        """Return the interpreter of each peer."""
        return {name: getattr(self, f"{name}_python") for name in PEERS}


PEERS = ("ffcv", "ffcv_ssl_fb", "dali", "torchvision", "pillow")
SECTIONS = {"data": DataConfig, "run": RunConfig, "peer": PeerConfig}


def _choices(name: str, text: str, known: tuple[str, ...]) -> list[str]:
    """Split comma-separated names and check that all are known."""
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    for word in chosen:
        if word not in known:
            raise ValueError(f"{name}: no '{word}'. Known: {', '.join(known)}.")
    return chosen
