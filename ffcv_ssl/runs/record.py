"""The folder of a run: configuration, rows, TensorBoard events, curves and result."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml
from tqdm import tqdm

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.runs.curves import draw_curves
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.runs.provenance import provenance
from ffcv_ssl.runs.resume import check_resume
from ffcv_ssl.runs.tracking import begin_wandb, require_wandb
from ffcv_ssl.system.paths import local_path, utf8_path
from ffcv_ssl.train.checkpoint import Progress
from ffcv_ssl.train.config import LogConfig
from ffcv_ssl.train.distributed import is_main


class Table:
    """A CSV file that grows row by row; its columns are those of the first row.

    Parameters
    ----------
    path
        The file. Rows of an earlier part of the run are kept up to `last_step`: what came after the checkpoint is trained again.
    last_step
        Step of the checkpoint; 0 begins an empty file.
    """

    def __init__(self, path: Path, last_step: int = 0):
        self.path = path
        self.rows = [row for row in read_rows(path) if row.get("step", 0) <= last_step] if last_step else []
        if self.rows:
            write_whole(path, self._text(self.rows, with_header=True).encode())
        else:
            self.path.unlink(missing_ok=True)

    def add(self, row: Mapping[str, float]) -> None:
        """Append one row; floats keep all their digits."""
        self.rows.append(dict(row))
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(self._text([row], with_header=len(self.rows) == 1))

    def _text(self, rows: Sequence[Mapping[str, float]], with_header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]))
        if with_header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def read_rows(path: Path) -> list[dict[str, float]]:
    """Rows of a table, every value a float; none where there is no file. A torn last line is left out.

    Raises
    ------
    ConfigError
        If the file is no such table.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise ConfigError(f"{path}: no table as a run writes it, numbers under a line of names; remove it or restore it.") from error


class RunRecord:
    """Everything a run leaves behind, in one folder; of several processes only rank 0 writes.

    Parameters
    ----------
    method
        Name of the method, as in the recipe's file name.
    configs
        Section name → its dataclass; the section "log" is a `LogConfig`.
    resume
        Go on in a folder that holds a run; without it such a folder is refused. "extend": also if it is finished, to another length.
    announce
        Called when the training begins, after all checks.

    Raises
    ------
    ConfigError
        If the folder holds a run already, or, with `resume`, one that does not go on under this configuration (see `check_resume`); or
        if a package to log with is missing.
    """

    def __init__(
        self, method: str, configs: Mapping[str, Any], resume: bool | Literal["extend"] = False, announce: Callable[[], None] = lambda: None
    ):
        self.method, self.announce = method, announce if is_main() else lambda: None
        self.log: LogConfig = configs["log"]
        self.folder = Path(local_path(self.log.out))
        self.checkpoint_path = self.folder / "checkpoint.pt"
        if self.log.wandb:
            require_wandb()
        self.configs = {name: asdict(config) for name, config in configs.items()}
        self.tables: dict[str, Table] = {}
        self.events: Any = None
        self._open = ExitStack()  # what the events need
        self.wandb: Any = None
        if is_main():
            self._begin_folder(resume)

    def _begin_folder(self, resume: bool | Literal["extend"]) -> None:
        """Refuse a folder in use, or write the configuration."""
        if self.checkpoint_path.exists():
            if not resume:
                raise ConfigError(f"{self.folder}: holds a run already; continue it with --train.resume=1 or choose another --log.out.")
            check_resume(self.folder, self.method, self.configs, resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"method": self.method, **self.configs}
        write_whole(self.folder / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())

    def begin(self, last_step: int) -> None:
        """Open the tables and events; rows after `last_step`, the checkpoint's, are dropped."""
        if not is_main():
            return
        self.tables = {name: Table(self.folder / f"{name}.csv", last_step) for name in ("train", "eval")}
        if self.log.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # heavy

            self.events = SummaryWriter(self._open.enter_context(utf8_path(self.folder)), purge_step=last_step + 1 if last_step else None)
        if self.log.wandb:
            self.wandb = begin_wandb(self.folder, self.log.wandb_project, {"method": self.method, **self.configs}, last_step > 0)

    def train_row(self, row: Mapping[str, float]) -> None:
        """Add a row to train.csv, TensorBoard and Weights & Biases."""
        if is_main():
            self._add("train", row)

    def eval_row(self, progress: Progress, steps_per_epoch: int, scores: Mapping[str, float]) -> None:
        """Add a row to eval.csv, TensorBoard and Weights & Biases, and say it; both columns of seconds are sums since the run began."""
        epoch = progress.step / steps_per_epoch
        seconds = {"seconds": progress.seconds, "evaluation_seconds": progress.evaluation_seconds}
        self._add("eval", {"step": progress.step, "epoch": epoch, **seconds, **scores})
        if self.log.progress:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            tqdm.write(f"{self.method}, epoch {epoch:.4g}: {numbers}", file=sys.stderr)

    def last_eval_row(self, progress: Progress, steps_per_epoch: int, scores: Mapping[str, float]) -> None:
        """Add the row of the finished run, unless it stands there (from before a run of no further step)."""
        rows = self.tables["eval"].rows
        if not rows or rows[-1]["step"] < progress.step:
            self.eval_row(progress, steps_per_epoch, scores)

    def _add(self, table: str, row: Mapping[str, float]) -> None:
        self.tables[table].add(row)
        if self.events is not None:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    self.events.add_scalar(f"{table}/{name}", value, int(row["step"]))
        if self.wandb is not None:
            self.wandb.log({f"{table}/{name}": value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def progress_bar(self, total_steps: int, step: int) -> tqdm:
        """A bar over steps on standard error; silent where that is no terminal."""
        disable = None if self.log.progress and is_main() else True
        return tqdm(total=total_steps, initial=step, unit="step", desc=self.method, disable=disable, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> "RunRecord":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Draw the curves and flush the events."""
        if self.tables and self.tables["train"].rows:
            draw_curves(self.tables["train"].rows, self.tables["eval"].rows, self.folder / "curves.png", title=self.method)
        if self.events is not None:
            self.events.close()
            self.events = None
            self._open.close()
        if self.wandb is not None:
            self.wandb.finish()
            self.wandb = None

    def write_result(self, result: Mapping[str, Any]) -> Path:
        """Write result.json: the numbers, the configuration and the code they came from."""
        content = {"method": self.method, **result, "made_by": provenance(), "config": self.configs}
        path = self.folder / "result.json"
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
        return path
