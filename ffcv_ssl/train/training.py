"""One training as it goes on, for the loop in `ffcv_ssl.train.loop`."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.ssl import Method, OnlineProbes, warmup_cosine
from ffcv_ssl.train.checkpoint import Checkpoint
from ffcv_ssl.train.classes import Classes, class_labels
from ffcv_ssl.train.clock import Clock
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.device import autocast, gradient_scaler, pick_precision
from ffcv_ssl.train.distributed import averaged, highest, is_main, wait_for_all, world_size
from ffcv_ssl.train.network import Network, frozen
from ffcv_ssl.train.progress import Progress, catch_up, note

if TYPE_CHECKING:
    from ffcv_ssl.runs.record import RunRecord


class Agreement(NamedTuple):
    """What all processes have agreed on after a step."""

    signal: int = 0  # that one of them received; 0: none
    is_save_due: bool = False


class Training:
    """One training as it goes on: takes a step, agrees with the other processes, scores, saves. Arguments as in `fit`."""

    def __init__(
        self,
        method: Method,
        loader: Any,
        optimizer: Optimizer,
        train: TrainConfig,
        optim: OptimConfig,
        record: "RunRecord",
        label: str,
        probes: OnlineProbes | None,
        classes: Classes | None,
    ):
        self.method, self.loader, self.optimizer, self.record = method, loader, optimizer, record
        self.train, self.optim = train, optim
        self.label, self.probes, self.classes = label, probes, classes
        self.device = next(method.parameters()).device
        self.precision = pick_precision(train.precision, self.device)
        self.scaler = gradient_scaler(self.device, self.precision)
        self.steps_per_epoch = len(loader)  # the same in all processes
        self.total_steps = train.epochs * self.steps_per_epoch
        if self.total_steps == 0:
            raise ConfigError(f"train.batch_size: the training file has fewer than {train.batch_size} images, which leaves no batch.")
        self.checkpoint = Checkpoint(record.checkpoint_path, method, optimizer, self.scaler, loader, probes, classes)
        (may_resume,) = highest(train.resume and self.checkpoint.path.exists())  # where one process finds it, all need it
        self.progress = self.checkpoint.restore() if may_resume else Progress()
        record.begin(self.progress.step)
        if is_main():
            catch_up(self.progress, record.tables["eval"].rows)
        self.clock = Clock(self.progress)
        self.losses = UnreadLosses()
        self.steps_here = 0  # taken by this process
        self.waiting = 0.0, 0.0  # when the batch was asked for, and when it came
        self.last_batch: Any = None
        self.loader_error: Exception | None = None

    @property
    def share_done(self) -> float:
        """Share of the training that is done, the same in all processes; 1 or more when it is over."""
        of_epochs = self.progress.step / self.total_steps
        return max(of_epochs, self.clock.shared_seconds / (60 * self.train.minutes)) if self.train.minutes else of_epochs

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.share_done >= 1

    @property
    def where(self) -> str:
        """The step, for messages."""
        return f"step {self.progress.step} of {self.total_steps}"

    @property
    def is_row_due(self) -> bool:
        """Whether this step gets a row in train.csv."""
        return self.progress.step % self.record.log.every == 0 or self.is_done

    def batches(self) -> Iterator[Any]:
        """The batches of one epoch.

        Where one of several processes cannot load a batch, it repeats its last one until all agree
        to stop. Nothing is saved from then on.
        """
        batches = None
        while True:
            asked_at = time.perf_counter()
            try:
                if self.loader_error is None:
                    batches = iter(self.loader) if batches is None else batches
                    batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                self.loader_error = error
            self.waiting = asked_at, time.perf_counter()
            if world_size() > 1:
                is_first = self.last_batch is None
                self.last_batch = batch = self.last_batch if self.loader_error is not None else batch
                if is_first and highest(self.loader_error is not None)[0]:
                    self.stop_for_loader()
            elif self.loader_error is not None:
                self.stop_for_loader()
            yield batch

    def step(self, network: Network, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step of the optimizer; return the loss and what else the method logs, not yet read from the device."""
        method, probes, optimizer = self.method, self.probes, self.optimizer
        views = batch[0].to(self.device, non_blocking=True)
        needs_labels = method.uses_labels or probes is not None
        labels = class_labels(batch, self.label, self.device, self.classes) if needs_labels else None

        share_before = self.share_done
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * warmup_cosine(share_before, self.optim.warmup, self.optim.final)
        optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision), nullcontext() if probes is None else probes.watching():
            loss, logs = network(views, labels) if method.uses_labels else network(views)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()
        logs = {**logs, **method.after_step(share_before)}
        if probes is not None and labels is not None:
            logs |= probes.step(labels, views.shape[1])

        self.progress.step += 1
        self.progress.images += views.shape[0] * world_size()
        self.steps_here += 1
        self.clock.add_step(*self.waiting, time.perf_counter())
        self.losses.add(loss)
        return loss, logs

    def agree(self, signal: int | None) -> Agreement:
        """Agree with the other processes on what this step has shown; stop if a loader failed or a loss is not finite."""
        if world_size() > 1 and not self.is_agreement_due:
            return Agreement()
        # Reading a loss waits for the GPU.
        is_read = world_size() > 1 or self.device.type != "cuda" or self.progress.step % self.record.log.every == 0
        if is_read:
            self.clock.synchronize(self.device)
        has_failed, is_bad, is_save_due, signal_of_one, *times = highest(
            self.loader_error is not None,
            is_read and not self.losses.are_finite(),
            self.checkpoint.age_s() >= 60 * self.train.checkpoint_minutes,
            signal or 0,
            self.progress.seconds,
            self.progress.waited_s,
        )
        self.clock.agree(*times)
        if has_failed:
            self.stop_for_loader()
        if is_bad:
            self.refuse("the loss")
        return Agreement(int(signal_of_one), bool(is_save_due))

    @property
    def is_agreement_due(self) -> bool:
        """Whether several processes agree after this step."""
        is_early = self.steps_here & (self.steps_here - 1) == 0  # 1, 2, 4, 8, …: mistakes show in the first steps
        return is_early or self.is_row_due or self.progress.step % self.steps_per_epoch == 0

    def write_row(self, loss: Tensor, logs: dict[str, Tensor], num_views: int) -> str:
        """Write a row of train.csv; return its text for the progress bar."""
        rates = self.clock.rates(num_views)
        values = averaged({"loss": loss.item(), **{name: value.item() for name, value in logs.items()}})
        step, lr = self.progress.step, self.optimizer.param_groups[0]["lr"]
        self.record.train_row({"step": step, "epoch": step / self.steps_per_epoch, "lr": lr, **values, **rates})
        return "loss {loss:.4g}, {images_per_s:.0f} images/s, waits {data_wait:.0%}".format(**values, **rates)

    def score_if_due(self, evaluate: Callable[[], dict[str, float]], times: int) -> None:
        """Evaluate the frozen method, if one of the `times` evenly spaced evaluations is due."""
        share_done = self.share_done
        due = 1 + int(times * share_done) if times and share_done < 1 else 0
        if self.progress.evaluations >= due:
            return
        self.progress.evaluations = due
        self.clock.synchronize(self.device)
        if is_main():
            begun_at = time.perf_counter()
            with frozen(self.method):
                scores = evaluate()
            note(self.progress, scores, time.perf_counter() - begun_at)
            self.record.eval_row(self.progress, self.steps_per_epoch, scores)
        wait_for_all()

    def save(self) -> None:
        """Write the checkpoint; stop instead if a loss or a weight is not finite."""
        self.clock.synchronize(self.device)
        bad_loss, bad_weight, *times = highest(
            not self.losses.are_finite(), not self.checkpoint.is_finite(), self.progress.seconds, self.progress.waited_s
        )
        self.clock.agree(*times)
        if bad_loss or bad_weight:
            self.refuse("the loss" if bad_loss else "a weight")
        self.checkpoint.save(self.progress)
        wait_for_all()  # else the others count the writing as training

    def keep_weights_if_due(self) -> None:
        """Keep the weights beside the checkpoint at the end of the epochs that `train.keep` names."""
        epochs, steps_over = divmod(self.progress.step, self.steps_per_epoch)
        if steps_over == 0 and epochs in self.train.kept_epochs:
            self.save()  # which refuses weights that are not finite
            self.checkpoint.keep(self.progress, epochs)

    def stop(self, signal: int) -> NoReturn:
        """Save and stop, as a signal asks."""
        self.save()
        message = f"stopped by a signal after {self.where}; --train.resume=1 continues from {self.checkpoint.path}."
        raise TrainingStopped(message, exit_status=128 + signal)

    def stop_for_loader(self) -> NoReturn:
        """Stop because this or another process could not load a batch."""
        if world_size() == 1:  # else the loaders of other processes are further than the weights
            self.save()
        error = self.loader_error or RuntimeError("another process could not load its share, and says why.")
        kept = f"The checkpoint {self.checkpoint.path} holds step {self.checkpoint.saved_step}."
        raise TrainingStopped(f"the loader failed after {self.where}: {error} {kept}") from error

    def refuse(self, what: str) -> NoReturn:
        """Stop because the training has broken down."""
        kept = f"The last good checkpoint is {self.checkpoint.path}, of step {self.checkpoint.saved_step}."
        raise TrainingStopped(f"{what} is not finite at {self.where}. {kept} A lower optim.lr may help.")


class UnreadLosses:
    """Losses that may still be on their way from the device."""

    def __init__(self) -> None:
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Remember a loss without reading it."""
        self.pending.append(loss.detach())

    def are_finite(self) -> bool:
        """Read what is pending; bad losses stay, so that every later call says so again."""
        if self.pending and not torch.stack(self.pending).isfinite().all():
            return False
        self.pending.clear()
        return True
