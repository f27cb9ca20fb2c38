"""Processes of `test_distributed.py`: whole runs, some of which end because of one process."""

import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.loader.batch import make_batch
from ffcv_ssl.runs import RunRecord
from ffcv_ssl.ssl import BYOL, Normalize, SimCLR
from ffcv_ssl.train import (
    LogConfig,
    OptimConfig,
    TrainConfig,
    build_optimizer,
    distributed,
    fit,
    prepare_torch,
)
from ffcv_ssl.train.distributed import process_group, rank, rank_batch_size, world_size
from tests.reference.memory_loader import MemoryLoader

OPTIM = OptimConfig(name="sgd", lr=0.05, weight_decay=1e-4, warmup=0.2)
EVALUATION_S = 4.0  # much longer than the 12 steps of a run


class PartLoader(MemoryLoader):
    """A loader of this process's part of every batch."""

    def __iter__(self):
        for batch in super().__iter__():
            yield make_batch(
                {
                    name: part[rank() :: world_size()]
                    for name, part in zip(batch.names, batch, strict=True)
                }
            )


class EndsInProcess1(PartLoader):
    """A loader that in step 5 gets SIGTERM, fails, or takes a second in rank 1."""

    what = "nothing"

    def __iter__(self):
        for batch in super().__iter__():
            if rank() == 1 and 4 * self.epoch + self.position == 5:
                if self.what == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                if self.what == "loader":
                    raise OSError("photos.beton: sample 17 cannot be read")
                if self.what == "slow":
                    time.sleep(1)
            yield batch


def method_without_batch_norm(name):
    """Return a small convolutional network; the weights are always the same."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
    projector, normalize = nn.Linear(36, 8), Normalize([127.5] * 3, [127.5] * 3)
    if name == "byol":
        return BYOL(backbone, projector, nn.Linear(8, 8), normalize, momentum=0.9)
    return SimCLR(backbone, projector, normalize, temperature=0.2)


def run(
    folder, name="simclr", ending="nothing", loss_factor=1.0, evaluation_s=0.0, every=1, **options
):
    """Train in `folder`; return the report of this process."""
    train = TrainConfig(
        **{"epochs": 3, "batch_size": 8, "precision": "float32", "device": "cpu", **options}
    )
    method = method_without_batch_norm(name)
    method.register_forward_hook(lambda _module, _inputs, found: (found[0] * loss_factor, found[1]))
    loader = EndsInProcess1(batch_size=8)
    loader.what = ending
    evaluations = []
    log = LogConfig(out=str(folder), every=every, tensorboard=False, progress=False)
    record = RunRecord(name, {"optim": OPTIM, "train": train, "log": log}, resume=train.resume)
    optimizer = build_optimizer(method, OPTIM, 8)
    report = {"stopped": "", "status": 0}

    def evaluate():
        evaluations.append(time.sleep(evaluation_s))
        return {"knn": 0.5}

    try:
        with record:
            report |= asdict(
                fit(method, loader, optimizer, train, OPTIM, record, evaluate, times=2)
            )
    except TrainingStopped as error:
        report |= {"stopped": str(error), "status": error.exit_status}
    return report | {"evaluations": len(evaluations), "weights": method.state_dict()}


def count_agreements(folder):
    """Return the number of collectives of a run of 120 steps that agrees every 10 steps."""
    calls, original = [], distributed._reduce
    distributed._reduce = lambda *arguments: calls.append(1) or original(*arguments)
    try:
        run(folder, every=10, epochs=30)
    finally:
        distributed._reduce = original
    return len(calls)


def dies_in_process_1(folder):
    """Train until rank 1 fails in the middle of a step."""
    method = method_without_batch_norm("simclr")

    def fail(_module, _inputs):
        if rank() == 1:
            raise RuntimeError("only process 1 fails")

    method.projector.register_forward_pre_hook(fail)
    train = TrainConfig(epochs=3, batch_size=8, precision="float32", device="cpu")
    record = RunRecord(
        "simclr", {"log": LogConfig(out=str(folder), tensorboard=False, progress=False)}
    )
    fit(method, PartLoader(), build_optimizer(method, OPTIM, 8), train, OPTIM, record)


def message_of(function, *arguments):
    """Return the message of the ConfigError that a call raises."""
    try:
        function(*arguments)
    except ConfigError as error:
        return str(error)
    return ""


def main(folder, what):
    train = TrainConfig(epochs=1, batch_size=8, device="cpu")
    device, _ = prepare_torch(train)
    with process_group(device):
        if what == "dies":
            dies_in_process_1(folder / "dies")
            return
        one_is_infinite = torch.inf if rank() == 1 else 1.0
        report = {
            "simclr": run(folder / "simclr"),
            "byol": run(folder / "byol", "byol"),
            "signal": run(folder / "signal", ending="signal"),
            "resumed": run(folder / "signal", resume=True),
            "loader": run(folder / "loader", ending="loader"),
            "after_loader": run(folder / "loader", resume=True),
            "slow": run(folder / "slow", ending="slow", epochs=10_000, minutes=0.5 / 60),
            "evaluating": run(folder / "evaluating", evaluation_s=EVALUATION_S),
            "late_signal": run(folder / "late_signal", ending="signal", every=10),
            "late_loader": run(folder / "late_loader", ending="loader", every=10),
            "late_minutes": run(
                folder / "late_minutes", ending="slow", every=10, epochs=10_000, minutes=0.5 / 60
            ),
            "rare": count_agreements(folder / "rare"),
            "infinite": run(folder / "infinite", "byol", loss_factor=one_is_infinite),
            "uneven": message_of(rank_batch_size, replace(train, batch_size=7)),
            "shares": (rank(), world_size(), rank_batch_size(train)),
        }
    torch.save(report, folder / f"{report['shares'][0]}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
