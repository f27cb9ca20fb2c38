"""Record of a run: the files in its folder, TensorBoard events and Weights & Biases."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tqdm import tqdm

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.runs.curves import draw_curves
from ffcv_ssl.runs.provenance import provenance
from ffcv_ssl.runs.resume import Resume, check_resume
from ffcv_ssl.runs.tracking import begin_wandb, require_wandb
from ffcv_ssl.system.atomic import write_whole
from ffcv_ssl.system.paths import local_path, utf8_path
from ffcv_ssl.train.config import LogConfig
from ffcv_ssl.train.distributed import is_main
from ffcv_ssl.train.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Table:
    """A CSV file to which rows are appended. The first row determines the columns.

    Parameters
    ----------
    path
        Path of the file.
    last_step
        Step of the checkpoint from which the run is resumed. Later rows are dropped, because their
        steps are trained again. 0 starts an empty file.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        if last_step:
            self.rows = [row for row in read_rows(path) if row.get("step", 0) <= last_step]
        if self.rows:
            write_whole(path, self._text(self.rows, with_header=True).encode())
        else:
            self.path.unlink(missing_ok=True)

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; floats keep all their digits."""
        self.rows.append(dict(row))
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(self._text([row], with_header=len(self.rows) == 1))

    def _text(self, rows: Sequence[Mapping[str, float]], with_header: bool) -> str:
        """Return rows as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]))
        if with_header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read the rows of a table; an incomplete last line is left out.

    Parameters
    ----------
    path
        Path of train.csv or eval.csv. A missing file has no rows.

    Returns
    -------
    list[dict]
        Column → value, for each row.

    Raises
    ------
    ConfigError
        If the file is not a table of numbers under a header.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: not a table of numbers under a header; remove or restore the file."
        ) from error


class RunRecord:
    """Record of a run in one folder. With several processes, only rank 0 writes.

    Parameters
    ----------
    method
        Name of the method, as in the file name of the recipe.
    configs
        Section → its dataclass. The section "log" must be a `LogConfig`.
    resume
        Whether to continue the run that the folder holds; without it, a folder with a run is
        rejected. "extend" continues a finished run, too, to another length.
    announce
        Function that is called when the training begins, after all checks.

    Raises
    ------
    ConfigError
        If the folder already holds a run; if `resume` is set and that run cannot continue with
        this configuration (see `check_resume`); or if a package for logging is missing.
    """

    def __init__(
        self,
        method: str,
        configs: Mapping[str, Any],
        resume: Resume = False,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self.method, self.announce = method, announce if is_main() else lambda: None
        self.log: LogConfig = configs["log"]
        self.folder = Path(local_path(self.log.out))
        self.checkpoint_path = self.folder / "checkpoint.pt"
        if self.log.wandb:
            require_wandb()
        self.configs = {name: asdict(config) for name, config in configs.items()}
        self.tables: dict[str, Table] = {}
        self.events: SummaryWriter | None = None
        self.wandb: Any = None
        self._open_paths = ExitStack()  # paths that the events need
        if is_main():
            self._prepare_folder(resume)

    def _prepare_folder(self, resume: Resume) -> None:
        """Check the folder, and write the configuration."""
        if self.checkpoint_path.exists():
            if not resume:
                raise ConfigError(
                    f"{self.folder}: holds a run already; continue it with --train.resume=1 or "
                    "choose another --log.out."
                )
            check_resume(self.folder, self.method, self.configs, resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"method": self.method, **self.configs}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_whole(self.folder / "config.yaml", text.encode())

    def begin(self, last_step: int) -> None:
        """Open the tables and the events, and drop later rows.

        Parameters
        ----------
        last_step
            Step of the checkpoint from which the run is resumed, or 0.

        Raises
        ------
        ConfigError
            If an existing table is damaged.
        """
        if not is_main():
            return
        for name in ("train", "eval"):
            self.tables[name] = Table(self.folder / f"{name}.csv", last_step)
        if self.log.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            folder = self._open_paths.enter_context(utf8_path(self.folder))
            first_step = last_step + 1 if last_step else None
            self.events = SummaryWriter(folder, purge_step=first_step)
        if self.log.wandb:
            config = {"method": self.method, **self.configs}
            self.wandb = begin_wandb(self.folder, self.log.wandb_project, config, last_step > 0)

    def train_row(self, row: Mapping[str, float]) -> None:
        """Add a row to train.csv, TensorBoard and Weights & Biases.

        Parameters
        ----------
        row
            Column → value, with "step".
        """
        if is_main():
            self._add("train", row)

    def eval_row(
        self, progress: Progress, steps_per_epoch: int, scores: Mapping[str, float]
    ) -> None:
        """Add a row to eval.csv, TensorBoard and Weights & Biases, and print it.

        Parameters
        ----------
        progress
            Progress of the run. Its training and evaluation times become columns.
        steps_per_epoch
            Number of steps in an epoch.
        scores
            Score name → value.
        """
        epoch = progress.step / steps_per_epoch
        row = {"step": progress.step, "epoch": epoch, "seconds": progress.seconds}
        self._add("eval", {**row, "evaluation_seconds": progress.evaluation_seconds, **scores})
        if self.log.progress:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            tqdm.write(f"{self.method}, epoch {epoch:.4g}: {numbers}", file=sys.stderr)

    def last_eval_row(
        self, progress: Progress, steps_per_epoch: int, scores: Mapping[str, float]
    ) -> None:
        """Add the row of the finished run, unless the table already has one for this step.

        A run that was resumed after its last step has one. The parameters are those of `eval_row`.
        """
        rows = self.tables["eval"].rows
        if not rows or rows[-1]["step"] < progress.step:
            self.eval_row(progress, steps_per_epoch, scores)

    def _add(self, table: str, row: Mapping[str, float]) -> None:
        """Add a row to a table, the events and Weights & Biases."""
        self.tables[table].add(row)
        step = int(row["step"])
        if self.events is not None:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    self.events.add_scalar(f"{table}/{name}", value, step)
        if self.wandb is not None:
            values = {f"{table}/{name}": value for name, value in row.items() if name != "step"}
            self.wandb.log(values, step=step)

    def progress_bar(self, total_steps: int, step: int) -> "tqdm[Any]":
        """Return a progress bar on standard error, which is hidden unless that is a terminal.

        Parameters
        ----------
        total_steps
            Number of steps in the training.
        step
            Number of steps taken so far.

        Returns
        -------
        tqdm
            Progress bar.
        """
        disable = None if self.log.progress and is_main() else True
        return tqdm(
            total=total_steps,
            initial=step,
            unit="step",
            desc=self.method,
            disable=disable,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def __enter__(self) -> "RunRecord":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Plot the curves, and close the events and the Weights & Biases run."""
        if self.tables and self.tables["train"].rows:
            rows = self.tables["train"].rows, self.tables["eval"].rows
            draw_curves(*rows, self.folder / "curves.png", title=self.method)
        if self.events is not None:
            self.events.close()
            self.events = None
            self._open_paths.close()
        if self.wandb is not None:
            self.wandb.finish()
            self.wandb = None

    def write_result(self, result: Mapping[str, Any]) -> Path:
        """Write result.json, with the configuration and the versions of the code.

        Parameters
        ----------
        result
            Content, fit for JSON.

        Returns
        -------
        Path
            Path of result.json.
        """
        content = {"method": self.method, **result, "made_by": provenance(), "config": self.configs}
        path = self.folder / "result.json"
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
        return path
