"""Kill writers and trainings at random moments, and check the files: `make kill KILLS=200 SEED=0`.

After each SIGKILL of a conversion, the target is the earlier or the new file, byte for byte, and
`verify` reports no problem. The list of skipped samples belongs to that file or is absent. No
worker is alive. The next write into the folder removes temporary files.

After each SIGKILL of a training, checkpoint and tables are readable. After several kills, each
followed by a resumption, the run ends with the same weights, optimizer state, losses and scores as
an uninterrupted run, bit for bit, and leaves no temporary files.

Every conversion and training runs in a forked child. The parent has imported all modules and
computes nothing itself.
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
KILLS_PER_RUN = 3  # before a training may finish
TRAIN = [
    "train", "--method=simclr", "--config-file=simclr_cpu", "--train.epochs=4",
    "--train.batch_size=20", "--train.threads=1", "--train.checkpoint_minutes=0", "--train.resume=1",  # noqa: E501
    "--model.width=4", "--data.workers=1", "--eval.times=2", "--eval.linear_epochs=2",
    "--log.every=1", "--log.tensorboard=0",
]  # fmt: skip


class Violation(Exception):
    """An expected property does not hold after a kill."""


class Texts:
    """Dataset in two versions, which fail at different samples."""

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
    """Run a function in a child with its own session; return the process id.

    The output of the child goes to `log`, or is discarded.
    """
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
    """Return the result of a function that runs in a child, so that torch computes only there."""
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
    """Kill a child after a delay; return False if it had ended before.

    Raises `Violation` if a process of its session stays alive.
    """
    time.sleep(delay_s)
    if os.waitpid(child, os.WNOHANG)[0]:
        return False
    os.kill(child, signal.SIGKILL)
    ended(child)
    deadline = time.monotonic() + 10
    while alive := processes_of(child):
        if time.monotonic() > deadline:
            raise Violation(f"processes {alive} are alive after their parent was killed")
        time.sleep(0.01)
    return True


def processes_of(session: int) -> list[int]:
    """Return the running processes of a session, without zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of_session = entry.read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state not in "ZX":
                found.append(int(entry.parent.name))
    return found


def digest(path: Path) -> str | None:
    """Return the hash of a file, or None if it does not exist."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files in a folder."""
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def convert(folder: Path, version: int, workers: int, on_error: Any) -> None:
    """Write one version of the dataset."""
    dataset = Texts(version, on_error == "skip")
    writer = DatasetWriter(
        folder / "x.beton", FIELDS, MIN_PAGE_SIZE, workers, on_error=on_error, progress=False
    )
    writer.from_indexed_dataset(dataset, chunksize=8)


def hashes(folder: Path) -> tuple[str | None, str | None]:
    """Return the hashes of the file and of its list of skipped samples."""
    return digest(folder / "x.beton"), digest(folder / "x.beton.skipped.csv")


def kill_writer(name: str, kills: int, chance: random.Random, scratch: Path, seen: Counter) -> None:
    """Kill conversions from one version to the other, sometimes to a new target."""
    options = WRITERS[name]
    lists: dict[str | None, str | None] = {}  # hash of a file to the hash of its list
    for version in (0, 1):
        folder = scratch / f"version {version}"
        folder.mkdir()
        began_at = time.perf_counter()
        ended(fork(convert, folder, version, *options))
        duration_s = time.perf_counter() - began_at
        lists.update([hashes(folder)])
    if None in lists or len(lists) != 2:
        raise Violation(f"writing the versions failed: {lists}")
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
        file, listed = hashes(folder)
        if file not in (before, versions[version]):
            raise Violation(f"{folder}: the target is neither the earlier file nor the new one")
        if listed not in (lists.get(file), None):
            raise Violation(f"{folder}: the list of skipped samples belongs to another file")
        seen["old" if file == before else "new"] += 1
        seen["list missing"] += listed != lists.get(file)
        check_folder(folder, file, seen)


def check_folder(folder: Path, file: str | None, seen: Counter) -> None:
    """Verify the file after a kill, then check that another write cleans up the folder."""
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
        raise Violation(f"{folder}: {left} remain after the next write")


def train(folder: Path, data: Path) -> int:
    """Run `ffcv-ssl train` on the small files, resuming from a checkpoint if there is one."""
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
    """Return the results of a finished run that do not depend on time."""
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
    """Return the bytes of every tensor and number in a nested structure, in order."""
    if isinstance(value, dict):
        return b"".join(repr(key).encode() + stored_bytes(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return b"".join(map(stored_bytes, value))
    return value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()


def readable(folder: Path) -> bool:
    """Return whether a killed run left a checkpoint; raise an error if it is damaged."""
    from ffcv_ssl.runs.saved_config import read_run
    from ffcv_ssl.train import load_checkpoint

    if (folder / "config.yaml").exists():
        read_run(folder)
    if (folder / "checkpoint.pt").exists():
        load_checkpoint(folder / "checkpoint.pt")
    return (folder / "checkpoint.pt").exists()


def write_shapes(data: Path) -> None:
    """Write the files for training and evaluation."""
    for name, count, seed in (("train.beton", 60, 0), ("val.beton", 30, 1)):
        shapes = ShapesDataset(count, seed)
        writer = DatasetWriter(
            data / name, shapes.fields(RGBImageField("raw")), num_workers=0, progress=False
        )
        writer.from_indexed_dataset(shapes)


def last_output(scratch: Path) -> str:
    """Return the last output of a training."""
    return (scratch / "log").read_text()[-500:]


def kill_training(
    name: str, kills: int, chance: random.Random, scratch: Path, seen: Counter
) -> None:
    """Kill and resume runs, let them finish, and compare them with an uninterrupted run."""
    for module in (
        "matplotlib.backends.backend_agg",
        "torch._dynamo",
        "ffcv_ssl.cli.main",
        "ffcv_ssl.recipes.simclr",
    ):
        import_module(module)  # import once, so that kills hit the training itself
    ask(write_shapes, scratch)
    began_at = time.perf_counter()
    if status := ended(fork(train, scratch / "uninterrupted", scratch, log=scratch / "log")):
        raise Violation(f"the uninterrupted training ended with {status}: {last_output(scratch)}")
    duration_s = time.perf_counter() - began_at
    wanted = ask(outcome, scratch / "uninterrupted")
    while seen["kills"] < kills:
        folder = scratch / f"run {seen['runs']}"
        for _ in range(min(KILLS_PER_RUN, kills - seen["kills"])):
            delay_s = chance.uniform(0, duration_s)
            if not killed(fork(train, folder, scratch, log=scratch / "log"), delay_s):
                seen["finished before"] += 1
                duration_s = (
                    delay_s  # the uninterrupted run compiled kernels, or little work is left
                )
                break
            seen["kills"] += 1
            seen["with checkpoint"] += ask(readable, folder)
            seen["leftovers"] += len(leftovers(folder)) if folder.exists() else 0
        if status := ended(fork(train, folder, scratch, log=scratch / "log")):
            raise Violation(
                f"{folder}: the resumed training ended with {status}: {last_output(scratch)}"
            )
        found = ask(outcome, folder)
        if different := [part for part in wanted if found[part] != wanted[part]]:
            raise Violation(
                f"{folder}: the resumed training differs from the uninterrupted one "
                f"in {', '.join(different)}"
            )
        if left := leftovers(folder):
            raise Violation(f"{folder}: {left} remain after the training")
        seen["runs"] += 1
        shutil.rmtree(folder)


def main() -> int:
    """Run all kills, print a table, write a JSON file; return 1 after a violation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--kills",
        type=int,
        default=200,
        help="kills of the writers, divided among the variants, and of the training (default: 200)",
    )
    parser.add_argument("--training-kills", type=int, help="kills of the training, if different")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the moments (default: 0)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the counts")
    options = parser.parse_args()
    logging.getLogger("ffcv_ssl").setLevel(logging.ERROR)  # removals are counted here
    training_kills = options.kills if options.training_kills is None else options.training_kills
    kills_by_name = {
        name: options.kills // len(WRITERS) + (number < options.kills % len(WRITERS))
        for number, name in enumerate(WRITERS)
    }
    result: dict[str, Any] = {"seed": options.seed, "violations": {}}
    for name, kills in {**kills_by_name, TRAINING: training_kills}.items():
        seen: Counter = Counter()
        began_at = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ffcv_ssl_kill_") as scratch:
            try:
                run = kill_training if name == TRAINING else kill_writer
                run(name, kills, random.Random(f"{options.seed} {name}"), Path(scratch), seen)
            except Violation as violation:
                result["violations"][name] = str(violation)
        result[name] = {**seen, "seconds": round(time.perf_counter() - began_at, 1)}
        counts = ", ".join(f"{count} {label}" for label, count in result[name].items())
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
