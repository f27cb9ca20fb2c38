"""Kill the writer and the training at random moments, look at what is left, and go on: `make kill KILLS=200 SEED=0`.

After every SIGKILL of a conversion: the target is the earlier file or the new one, byte for byte, and `verify` finds nothing; the list of
skipped samples is that of the file beside it, or there is none; no worker lives; the next write into the folder removes what was left.
After every SIGKILL of a training: checkpoint and tables can be read; after a few kills the run, resumed each time, ends with the weights,
optimizer state, losses and scores of a run that nobody disturbed, bit for bit, and nothing else lies in its folder.

Every conversion and training runs in a child that is forked from this process, which has everything imported and computes nothing itself.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.fields import BytesField, IntField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.recipes.demo.shapes import ShapesDataset
from ffcv_ssl.system.atomic import replacing
from ffcv_ssl.writer import DatasetWriter

FIELDS = {"text": BytesField(), "index": IntField()}
SAMPLES, SAMPLE_BYTES, SAMPLE_S = 120, 20_000, 0.001
WRITERS = {
    "writer": (0, "raise"),
    "writer, 2 workers": (2, "raise"),
    "writer, 2 workers, skip": (2, "skip"),
}
TRAINING = "training"
KILLS_PER_RUN = 3  # then a training may finish
PATIENCE_S = 120.0
TRAIN = [
    "train", "--method=simclr", "--config-file=simclr_cpu", "--train.epochs=4", "--train.batch_size=20", "--train.threads=1",
    "--train.checkpoint_minutes=0", "--train.resume=1", "--model.width=4", "--data.workers=1", "--eval.times=2", "--eval.linear_epochs=2",
    "--log.every=1", "--log.tensorboard=0",
]  # fmt: skip


class Violation(Exception):
    """Something is not as it should be after a kill."""


class Texts:
    """Two versions of a data set; of each, other samples fail."""

    def __init__(self, version: int, fails: bool):
        self.version, self.fails = version, fails

    def __len__(self) -> int:
        return SAMPLES + 10 * self.version

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        time.sleep(SAMPLE_S)
        if self.fails and (index + self.version) % 7 == 0:
            raise ValueError(f"sample {index} of version {self.version}")
        return random.Random(f"{self.version} {index}").randbytes(SAMPLE_BYTES), index


def fork(function: Callable[..., Any], *arguments: Any, log: Path | None = None) -> int:
    """Run a function in a child with a session of its own; return its process id. Its output goes to `log`, or nowhere."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = function(*arguments) or 0
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(status)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a child: torch computes there, not here."""
    reader, writer = os.pipe()

    def answer() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(function(*arguments), pipe)

    child = fork(answer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    if ended(child) != 0:
        raise Violation(f"{function.__name__}{arguments} failed in a child")
    return pickle.loads(data)


def killed(child: int, delay_s: float) -> bool:
    """Kill a child after a while; False if it had ended by then. Raises if anything of its session lives on."""
    time.sleep(delay_s)
    if os.waitpid(child, os.WNOHANG)[0]:
        return False
    os.kill(child, signal.SIGKILL)
    ended(child)
    deadline = time.monotonic() + 10
    while alive := processes_of(child):
        if time.monotonic() > deadline:
            raise Violation(f"processes {alive} live on after their parent was killed")
        time.sleep(0.01)
    return True


def processes_of(session: int) -> list[int]:
    """Processes of a session that run; those that have ended but were not collected do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of_session = entry.read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state not in "ZX":
                found.append(int(entry.parent.name))
    return found


def digest(path: Path) -> str | None:
    """Hash of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder."""
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def convert(folder: Path, version: int, workers: int, on_error: Any) -> None:
    """Write one version."""
    dataset = Texts(version, on_error == "skip")
    writer = DatasetWriter(
        folder / "x.beton", FIELDS, MIN_PAGE_SIZE, workers, on_error=on_error, progress=False
    )
    writer.from_indexed_dataset(dataset, chunksize=8)


def both(folder: Path) -> tuple[str | None, str | None]:
    """Hashes of the file and of its list."""
    return digest(folder / "x.beton"), digest(folder / "x.beton.skipped.csv")


def kill_writer(name: str, kills: int, chance: random.Random, scratch: Path, seen: Counter) -> None:
    """Kill conversions from one version to the other, sometimes to a target that is not there yet."""
    options = WRITERS[name]
    lists: dict[str | None, str | None] = {}  # file -> the list that belongs to it
    for version in (0, 1):
        folder = scratch / f"version {version}"
        folder.mkdir()
        began_at = time.perf_counter()
        ended(fork(convert, folder, version, *options))
        duration_s = time.perf_counter() - began_at
        lists.update([both(folder)])
    if None in lists or len(lists) != 2:
        raise Violation(f"the versions could not be written: {lists}")
    versions = list(lists)
    folder = scratch / "target"
    folder.mkdir()
    while seen["kills"] < kills:
        if chance.random() < 0.2:
            for path in folder.iterdir():
                path.unlink()
        before = digest(folder / "x.beton")
        version = 1 if before == versions[0] else 0
        delay_s = (
            chance.uniform(0, duration_s)
            if chance.random() < 0.5
            else chance.uniform(0.8 * duration_s, 1.2 * duration_s)
        )
        if not killed(fork(convert, folder, version, *options), delay_s):
            seen["finished before"] += 1
            continue
        seen["kills"] += 1
        file, listed = both(folder)
        if file not in (before, versions[version]):
            raise Violation(f"{folder}: the target is neither the earlier file nor the new one")
        if listed not in (lists.get(file), None):
            raise Violation(f"{folder}: the list beside the file is not its own")
        seen["old" if file == before else "new"] += 1
        seen["list missing"] += listed != lists.get(file)
        go_on_in(folder, file, seen)


def go_on_in(folder: Path, file: str | None, seen: Counter) -> None:
    """Verify what a killed conversion left, and write another file into the folder."""
    if file is not None:
        with Reader(folder / "x.beton") as reader:
            if problems := list(reader.verify()):
                raise Violation(f"{folder}: verify: {problems}")
    left = leftovers(folder)
    seen["leftovers"] += len(left)
    seen["leftover KiB"] += sum(path.stat().st_size for path in left) >> 10
    with replacing(str(folder / "other")) as descriptor:
        os.write(descriptor, b"x")
    if left := leftovers(folder):
        raise Violation(f"{folder}: {left} outlived the next write")


def train(folder: Path, data: Path) -> int:
    """`ffcv-ssl train` on the small files, from its checkpoint where there is one."""
    from ffcv_ssl.cli.main import main

    return main(
        [
            *TRAIN,
            f"--data.train={data / 'train.beton'}",
            f"--data.val={data / 'val.beton'}",
            f"--log.out={folder}",
        ]
    )


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run has learned: everything that does not depend on time."""
    from ffcv_ssl.runs.record import read_rows
    from ffcv_ssl.train import load_checkpoint

    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    parts = {
        name: hashlib.sha256(stored_bytes(checkpoint[name])).hexdigest()
        for name in ("method", "optimizer", "rng")
    }
    columns = {"train": ("step", "loss", "lr"), "eval": ("step", "knn")}
    rows = {
        name: [[row[column] for column in wanted] for row in read_rows(folder / f"{name}.csv")]
        for name, wanted in columns.items()
    }
    scores = json.loads((folder / "result.json").read_text())["scores"]
    return {**parts, **rows, "scores": scores, "steps": checkpoint["progress"]["step"]}


def stored_bytes(value: Any) -> bytes:
    """Every tensor and number in a nested structure, in order."""
    if isinstance(value, dict):
        return b"".join(repr(key).encode() + stored_bytes(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return b"".join(map(stored_bytes, value))
    return value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()


def readable(folder: Path) -> bool:
    """Whether a killed run left a checkpoint; raises if one is damaged."""
    from ffcv_ssl.runs.saved_config import read_run
    from ffcv_ssl.train import load_checkpoint

    if (folder / "config.yaml").exists():
        read_run(folder)
    if (folder / "checkpoint.pt").exists():
        load_checkpoint(folder / "checkpoint.pt")
    return (folder / "checkpoint.pt").exists()


def write_shapes(data: Path) -> None:
    """The files to train and to judge on."""
    for name, count, seed in (("train.beton", 60, 0), ("val.beton", 30, 1)):
        shapes = ShapesDataset(count, seed)
        writer = DatasetWriter(
            data / name, shapes.fields(RGBImageField("raw")), num_workers=0, progress=False
        )
        writer.from_indexed_dataset(shapes)


def kill_training(
    name: str, kills: int, chance: random.Random, scratch: Path, seen: Counter
) -> None:
    """Kill runs a few times each, resume them, let them finish, and compare with one that nobody disturbed."""
    for module in (
        "matplotlib.backends.backend_agg",
        "torch._dynamo",
        "ffcv_ssl.cli.main",
        "ffcv_ssl.recipes.simclr",
    ):
        import_module(module)  # all that a training imports, once: kills shall meet the training
    ask(write_shapes, scratch)
    began_at = time.perf_counter()
    if status := ended(fork(train, scratch / "undisturbed", scratch, log=scratch / "log")):
        raise Violation(
            f"the undisturbed training ended with {status}: {(scratch / 'log').read_text()[-500:]}"
        )
    duration_s = time.perf_counter() - began_at
    wanted = ask(outcome, scratch / "undisturbed")
    while seen["kills"] < kills:
        folder = scratch / f"run {seen['runs']}"
        for _ in range(min(KILLS_PER_RUN, kills - seen["kills"])):
            delay_s = chance.uniform(0, duration_s)
            if not killed(fork(train, folder, scratch, log=scratch / "log"), delay_s):
                seen["finished before"] += 1
                duration_s = (
                    delay_s  # the undisturbed run compiled kernels, or what is left is short
                )
                break
            seen["kills"] += 1
            seen["with checkpoint"] += ask(readable, folder)
            seen["leftovers"] += len(leftovers(folder)) if folder.exists() else 0
        if status := ended(fork(train, folder, scratch, log=scratch / "log")):
            raise Violation(
                f"{folder}: the resumed training ended with {status}: {(scratch / 'log').read_text()[-500:]}"
            )
        found = ask(outcome, folder)
        if different := [part for part in wanted if found[part] != wanted[part]]:
            raise Violation(
                f"{folder}: the resumed training has other {', '.join(different)} than the undisturbed one"
            )
        if left := leftovers(folder):
            raise Violation(f"{folder}: {left} outlived the training")
        seen["runs"] += 1
        shutil.rmtree(folder)


def main() -> int:
    """Kill, print a table, write a JSON file; 1 if something was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--kills",
        type=int,
        default=200,
        help="of the writer, shared by its variants, and as many of the training",
    )
    parser.add_argument("--training-kills", type=int, help="another number for the training")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--out", type=Path, help="JSON file with the counts")
    options = parser.parse_args()
    logging.getLogger("ffcv_ssl").setLevel(logging.ERROR)  # what is removed is counted here
    training_kills = options.kills if options.training_kills is None else options.training_kills
    shares = {
        name: options.kills // len(WRITERS) + (number < options.kills % len(WRITERS))
        for number, name in enumerate(WRITERS)
    }
    result: dict[str, Any] = {"seed": options.seed, "violations": {}}
    for name, kills in {**shares, TRAINING: training_kills}.items():
        seen: Counter = Counter()
        began_at = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ffcv_ssl_kill_") as scratch:
            try:
                run = kill_training if name == TRAINING else kill_writer
                run(name, kills, random.Random(f"{options.seed} {name}"), Path(scratch), seen)
            except Violation as violation:
                result["violations"][name] = str(violation)
        result[name] = {**seen, "seconds": round(time.perf_counter() - began_at, 1)}
        counts = ", ".join(f"{count} {what}" for what, count in result[name].items())
        print(
            f"{name:24} {'VIOLATED' if name in result['violations'] else 'holds':9} {counts}",
            flush=True,
        )
    for name, violation in result["violations"].items():
        print(f"{name}: {violation}")
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
