"""Curves of a run as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Rows = Sequence[Mapping[str, float]]


def draw_curves(train_rows: Rows, eval_rows: Rows, path: str | Path, title: str = "") -> None:
    """Draw loss, learning rate and accuracy over steps to a PNG.

    Parameters
    ----------
    train_rows, eval_rows
        Rows of train.csv and eval.csv; the accuracies are whatever columns of `eval_rows` start with "knn", "linear" or "online".
    path
        The file to write.
    title
        Above the picture.
    """
    # The object interface with Agg: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, accuracy = figure.subplots(1, 3)
    steps = [row["step"] for row in train_rows]
    loss.plot(steps, [row["loss"] for row in train_rows], linewidth=1)
    loss.set(title="loss", xlabel="step")
    rate.plot(steps, [row["lr"] for row in train_rows], linewidth=1)
    rate.set(title="learning rate", xlabel="step")
    names = [name for name in (eval_rows[-1] if eval_rows else {}) if name.startswith(("knn", "linear", "online"))]
    for name in names:
        points = [(row["step"], 100 * row[name]) for row in eval_rows if name in row]
        accuracy.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name)
    accuracy.set(title="accuracy on the validation file, %", xlabel="step")
    if names:
        accuracy.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")  # beside the curves: probes make many
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
