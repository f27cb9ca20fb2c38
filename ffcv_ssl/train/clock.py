"""The time that a training takes."""

import time

import torch

from ffcv_ssl.train.distributed import world_size
from ffcv_ssl.train.progress import Progress


class Clock:
    """Adds up the time of a training in its `Progress`.

    The wait for a process's first batch is start-up and is not counted. Several processes each
    measure their own time and agree on the longest from time to time (`agree`). In between,
    `shared_seconds` is estimated from what they agreed on, so that it is the same in all of them.
    """

    def __init__(self, progress: Progress):
        self.progress = progress
        self._has_begun = False
        self._agreed_step, self._agreed_seconds = progress.step, progress.seconds
        self._step_s = progress.seconds / progress.step if progress.step else 0.0
        self._mark()

    def _mark(self) -> None:
        progress = self.progress
        self._images, self._seconds, self._waited_s = progress.images, progress.seconds, progress.waited_s

    def add_step(self, asked_at: float, got_at: float, done_at: float) -> None:
        """Count one step: when its batch was asked for, when it came, when the step was done."""
        if not self._has_begun:
            self._has_begun, asked_at = True, got_at
        self.progress.waited_s += got_at - asked_at
        self.progress.seconds += done_at - asked_at

    def synchronize(self, device: torch.device) -> None:
        """Wait until a GPU has done what it was asked to do, and count the wait as training."""
        if device.type == "cuda":
            begun_at = time.perf_counter()
            torch.cuda.synchronize(device)
            self.progress.seconds += time.perf_counter() - begun_at

    def agree(self, seconds: float, waited_s: float) -> None:
        """Set the times that all processes have agreed on."""
        progress = self.progress
        steps = progress.step - self._agreed_step
        if steps:
            self._step_s = (seconds - self._agreed_seconds) / steps
        progress.seconds, progress.waited_s = seconds, waited_s
        self._agreed_step, self._agreed_seconds = progress.step, seconds

    @property
    def shared_seconds(self) -> float:
        """Seconds of training, the same in all processes."""
        if world_size() == 1:
            return self.progress.seconds
        return self._agreed_seconds + self._step_s * (self.progress.step - self._agreed_step)

    def rates(self, num_views: int) -> dict[str, float]:
        """Seconds of training so far; images and views per second, and the share of time spent waiting, since the last call."""
        progress = self.progress
        seconds = max(progress.seconds - self._seconds, 1e-9)
        images_per_s = (progress.images - self._images) / seconds
        data_wait = (progress.waited_s - self._waited_s) / seconds
        self._mark()
        rates = {"seconds": progress.seconds, "images_per_s": images_per_s}
        return {**rates, "views_per_s": images_per_s * num_views, "data_wait": data_wait}
