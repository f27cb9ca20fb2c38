"""Plot of the training curves of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Rows = Sequence[Mapping[str, float]]


def draw_curves(train_rows: Rows, eval_rows: Rows, path: str | Path, title: str = "") -> None:
    """Plot loss, learning rate and accuracy over steps, and save the plot as a PNG file.

    Parameters
    ----------
    train_rows
        Rows of train.csv.
    eval_rows
        Rows of eval.csv. Columns whose names start with "knn", "linear" or "online" hold
        accuracies in 0..1.
    path
        Path of the PNG file.
    title
        Title of the plot.
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
    columns = eval_rows[-1] if eval_rows else {}
    names = [name for name in columns if name.startswith(("knn", "linear", "online"))]
    for name in names:
        points = [(row["step"], 100 * row[name]) for row in eval_rows if name in row]
        xs, ys = zip(*points, strict=True)
        accuracy.plot(xs, ys, marker="o", markersize=3, linewidth=1, label=name)
    accuracy.set(title="accuracy on the validation file, %", xlabel="step")
    if names:  # beside the curves, because probes add many
        accuracy.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
