"""The options of the benchmark, read by `ffcv-ssl bench` and by `benchmarks/bench.py`."""

from dataclasses import dataclass, field

from ffcv_ssl.benchmarks.workloads import GROUPS, WORKLOADS, Epochs
from ffcv_ssl.system.paths import LocalPath

DECODES = ("full", "fast")
EVERYTHING = "all"


def _option(help_text: str, default, **more):
    return field(default=default, metadata={"help": help_text, **more})


@dataclass(frozen=True)
class DataConfig:
    """What is loaded."""

    path: LocalPath | None = _option(
        "a .beton file with an image field, or a folder of JPEGs; none draws images",
        None,
        positional="FILE",
    )
    patches: LocalPath | None = _option(
        "an .npz file with (N, 32, 32, 3) uint8 images, or a .beton file of them; none draws images",
        None,
    )
    images: int = _option("images to store, at most, >= 1", 512)
    patch_images: int = _option("small images to store, at most, >= 1", 2000)

    def __post_init__(self):
        if min(self.images, self.patch_images) < 1:
            raise ValueError("images and patch_images are at least 1.")


@dataclass(frozen=True)
class RunConfig:
    """What is measured."""

    workloads: str = _option(
        f"names with commas, or {EVERYTHING}: {', '.join(WORKLOADS)}; ladder means all its steps",
        EVERYTHING,
    )
    repeats: int = _option(
        "timed epochs of every contestant, >= 1; 5 or more for numbers to show", 5
    )
    epoch_images: int = _option(
        "images per epoch, at least, >= 1: the stored ones, each equally often", 4000
    )
    epoch_s: float = _option("seconds after which a contestant's epoch ends early, > 0", 5.0)
    workers: int = _option(
        "threads or worker processes of every contestant; -1: as many as this process may use cores",
        -1,
    )
    decode: str = _option(
        "further rows of ours with this decode=, names with commas: full, fast; empty for none", ""
    )
    extras: str = _option(
        "first_batch, memory, scaling, names with commas; none for none of them, all for all",
        "none",
    )
    epochs: int = _option("epochs of the memory measurement, >= 2", 20)
    timeout_s: float = _option(
        "seconds within which a contestant has to answer; FFCV-SSL compiles for minutes", 900.0
    )
    keep: bool = _option("keep what the JSON holds of measurements that are not made now", False)
    out: LocalPath = _option(
        "JSON with every time; the chart gets the same name and .png", "bench.json", alias="--out"
    )

    def __post_init__(self):
        if (
            self.repeats < 1
            or self.epochs < 2
            or self.timeout_s <= 0
            or self.workers < -1
            or self.workers == 0
        ):
            raise ValueError(
                "repeats >= 1, epochs >= 2, timeout_s > 0, and workers is -1 or at least 1."
            )
        if self.epoch_images < 1 or self.epoch_s <= 0:
            raise ValueError("epoch_images is at least 1, and epoch_s is above 0.")
        self.workload_names()
        _choices("decode", self.decode, DECODES)
        self.extra_names()

    def measured_epochs(self) -> Epochs:
        """How many epochs, and how long they are."""
        return Epochs(self.repeats, self.epoch_images, self.epoch_s)

    def workload_names(self) -> list[str]:
        """The names of the workloads, in their order of definition."""
        chosen = _choices("workloads", self.workloads, (EVERYTHING, "none", *GROUPS, *WORKLOADS))
        wanted = (
            set(WORKLOADS)
            if EVERYTHING in chosen
            else {name for choice in chosen for name in GROUPS.get(choice, (choice,))}
        )
        return [name for name in WORKLOADS if name in wanted]

    def decode_options(self) -> list[str]:
        """Values of `decode=` that get rows of their own."""
        return _choices("decode", self.decode, DECODES)

    def extra_names(self) -> list[str]:
        """Further measurements."""
        known = ("first_batch", "memory", "scaling")
        chosen = _choices("extras", self.extras, ("none", EVERYTHING, *known))
        return [name for name in known if name in chosen or EVERYTHING in chosen]


@dataclass(frozen=True)
class PeerConfig:
    """The Python of each peer; none: the one that runs this. A peer that it does not have is reported as absent."""

    only: str = _option(
        "peers that take part, names with commas: ffcv, ffcv_ssl_fb, dali, torchvision, pillow; all or none",
        EVERYTHING,
    )
    ffcv_python: LocalPath | None = _option(
        "Python that has FFCV 1.0.2", None, alias="--peer.ffcv.python"
    )
    ffcv_ssl_fb_python: LocalPath | None = _option(
        "Python that has FFCV-SSL, built from a checkout", None, alias="--peer.ffcv_ssl_fb.python"
    )
    dali_python: LocalPath | None = _option(
        "Python that has DALI", None, alias="--peer.dali.python"
    )
    torchvision_python: LocalPath | None = _option(
        "Python that has torchvision and torch", None, alias="--peer.torchvision.python"
    )
    pillow_python: LocalPath | None = _option(
        "Python that has Pillow and torch", None, alias="--peer.pillow.python"
    )

    def __post_init__(self):
        self.names()

    def names(self) -> list[str]:
        """The peers that take part."""
        chosen = _choices("only", self.only, ("none", EVERYTHING, *PEERS))
        return [name for name in PEERS if name in chosen or EVERYTHING in chosen]

    def pythons(self) -> dict[str, str | None]:
        """Peer → interpreter."""
        return {name: getattr(self, f"{name}_python") for name in PEERS}


PEERS = ("ffcv", "ffcv_ssl_fb", "dali", "torchvision", "pillow")
SECTIONS = {"data": DataConfig, "run": RunConfig, "peer": PeerConfig}


def _choices(name: str, text: str, known: tuple[str, ...]) -> list[str]:
    """Names separated by commas, all of them known."""
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    for word in chosen:
        if word not in known:
            raise ValueError(f"{name}: no '{word}'. Known: {', '.join(known)}.")
    return chosen
