"""Write the measured tables into README.md and benchmarks/README.md, between two markers.

    python benchmarks/readme_table.py [--results=benchmarks/results] [--check]

The script reads bench.json (`bench.py --out`) and, if present, writer.json (`writer_throughput.py
--out`) and kernels.json (`kernel_times.py --out`).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.benchmarks import kernel_times, machine, report, writer_throughput
from ffcv_ssl.benchmarks.entries import DECODER_LABELS, OURS
from ffcv_ssl.benchmarks.goals import GOALS, goals_table
from ffcv_ssl.benchmarks.workloads import STEPWISE

HERE = Path(__file__).resolve().parent
BEGIN, END = (
    "<!-- measured: begin (benchmarks/readme_table.py writes this) -->",
    "<!-- measured: end -->",
)
NOTHING = "No results yet. `make bench` prints the tables."
PEERS = {
    "ffcv": "FFCV",
    "ffcv_ssl_fb": "FFCV-SSL",
    "dali": "DALI, CPU",
    "torchvision": "torchvision",
    "pillow": "Pillow",
}
STARTS = (
    "The rates above leave out the start of an epoch. "
    "Milliseconds from `iter(loader)` to the first batch:"
)
WRITER_GOALS = [goal for goal in GOALS if goal.text.startswith("writer, ")]
OURS_KEYS = {"ours_pip": DECODER_LABELS["simplejpeg"], "ours_native": DECODER_LABELS["native"]}


def main() -> int:
    """Write both files, or only compare them with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=HERE / "results",
        help="folder of the JSON files (default: %(default)s)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if a file differs"
    )
    options = parser.parse_args()
    stale = []
    for path, text in blocks(options.results).items():
        wanted = inserted(path.read_text(encoding="utf-8"), text, path)
        if wanted != path.read_text(encoding="utf-8"):
            stale.append(path)
            if not options.check:
                path.write_text(wanted, encoding="utf-8")
    sys.stdout.write(
        "".join(f"{path}: {'stale' if options.check else 'written'}\n" for path in stale)
    )
    return int(options.check and bool(stale))


def blocks(results: Path) -> dict[Path, str]:
    """Return the text between the markers of each file."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")
    }
    if "bench" not in found:
        return dict.fromkeys((HERE.parent / "README.md", HERE / "README.md"), NOTHING)
    result = found["bench"] | {name: found[name] for name in ("writer", "kernels") if name in found}
    return {HERE.parent / "README.md": summary(result), HERE / "README.md": details(result)}


def inserted(text: str, block: str, path: Path) -> str:
    """Return the text with the block between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path}: the lines '{BEGIN}' and '{END}' are missing; add them.")
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{after}"


def summary(result: Mapping[str, Any]) -> str:
    """Return the tables of README.md: rates by workload and ffcv_ssl row, and start times."""
    left_out = {*STEPWISE, "train2"}
    lines = [
        [
            "",
            "ffcv_ssl",
            "images/s",
            "of plain decode",
            *(f"x {name}" for name in PEERS.values()),
        ]
    ]
    for each in result["workloads"]:
        for key, name in OURS_KEYS.items():
            own = report.row_of(each, key)
            if each["name"] not in left_out and own is not None:
                lines.append(
                    [
                        each["title"] if key == "ours_pip" else "",
                        name,
                        f"{report.rate(own):,.0f}",
                        *_ratios(each, own),
                    ]
                )
    starts = start_table([each for each in result["workloads"] if each["name"] not in left_out])
    paragraphs = [
        report.as_markdown(lines),
        f"Median images per second on {result['workers']} cores ({result['machine']['cpu']}), and "
        f"speed relative to each peer in the same run{_epochs(result)}. Ratios in brackets: the "
        "peer lacks some of the operations and leaves them out. "
        '"of plain decode": speed relative to a loop that '
        "only decodes the same JPEGs.",
        *([STARTS, report.as_markdown(starts)] if starts else []),
        *_sentences(result),
    ]
    return "\n\n".join(paragraphs)


def _epochs(result: Mapping[str, Any]) -> str:
    """Return the length of the epochs, if the results hold it."""
    limits = {each["epoch_s"] for each in result["workloads"] if "epoch_s" in each}
    if not limits:
        return ""
    images = min(each["num_images"] for each in result["workloads"])
    return f", over epochs of at least {images:,} images or {min(limits):g} s, without their start"


def start_table(results: Sequence[Mapping[str, Any]]) -> report.Table:
    """Return the start of an epoch by workload and contestant; empty if it was not measured."""
    names = OURS_KEYS | PEERS
    lines = [
        [
            each["title"],
            *(report.start(row) if (row := report.row_of(each, key)) else "-" for key in names),
        ]
        for each in results
    ]
    is_measured = any(cell not in ("", "-") for line in lines for cell in line[1:])
    return [["ms to the first batch", *names.values()], *lines] if is_measured else []


def _ratios(each: Mapping[str, Any], own: report.Row) -> list[str]:
    """Return the speed relative to plain decode and to every peer."""
    top = report.ceiling(each)
    cells = [f"{report.ratio(own, top):.2f}" if top else "-"]
    for key in PEERS:
        peer = report.row_of(each, key)
        times = f"{report.ratio(own, peer):.1f}" if peer else "-"
        cells.append(f"({times})" if peer and peer["lacks"] else times)
    return cells


def _sentences(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence each on first batch, memory, writer and training, as far as measured."""
    sentences = []
    if rows := result.get("first_batch"):
        cells = [
            f"{line[0]} {line[-1].partition(' [')[0]} s"
            for line in report.first_batch_table(rows)[1:]
            if line[-1][0].isdigit()
        ]
        sentences.append(
            f"Time from `import torch` to the first batch of two SimCLR views: {'; '.join(cells)}."
        )
    if result.get("memory", {}).get("status") == "ok":
        sentences.append(
            f"Peak memory above an idle process, {result['memory']['title']}: "
            f"{report.memory_above(result['memory']):.2f} GB."
        )
    if "writer" in result:
        own = [
            (
                goal.text.replace(", against FFCV's", ""),
                goal.shown(result, "ours_pip").partition(" ")[0],
            )
            for goal in WRITER_GOALS
        ]
        cells = [f"{text} {ratio}" for text, ratio in own]
        sentences.append(f"Writing speed of the pip install relative to FFCV: {'; '.join(cells)}.")
    train = next((each for each in result["workloads"] if each["name"] == "train2"), None)
    if train and (rows := report.measured(train)):
        cells = [f"{row['name']} {report.rate(row):,.0f}" for row in rows]
        sentences.append(f"Images per second, {train['title']}: {'; '.join(cells)}.")
    return sentences


def details(result: Mapping[str, Any]) -> str:
    """Return every table of the run, starting with the goals."""
    texts = [
        report.result_text(each) for each in result["workloads"] if each["name"] not in STEPWISE
    ]
    if steps := report.steps_table(result["workloads"]):
        texts.append(report.as_text(steps))
    if result.get("first_batch"):
        texts.append(report.as_text(report.first_batch_table(result["first_batch"])))
    if result.get("memory"):
        texts.append(report.memory_text(result["memory"]))
    if result.get("scaling"):
        texts.append(
            f"{report.title(result['scaling'])}\n"
            f"{report.as_text(report.scaling_table(result['scaling']))}"
        )
    if "kernels" in result:
        texts.append(kernel_times.table_text(result["kernels"]))
    if "writer" in result:
        texts += [writer_throughput.result_text(each) for each in result["writer"]["results"]]
    tables = "\n\n".join(f"```\n{text}\n```" for text in texts)
    versions = "; ".join(f"{name}: {text}" for name, text in peer_versions(result).items())
    return "\n\n".join(
        [
            "```\n" + machine.as_text(result["machine"]) + "\n```",
            f"Versions of the peers: {versions}." if versions else "",
            report.as_markdown(goals_table(result)),
            "![Images per second](results/bench.png)",
            tables,
        ]
    )


def peer_versions(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the package versions of each peer."""
    rows = [
        row for each in result["workloads"] for row in report.measured(each) if row["kind"] != OURS
    ]
    return {
        row["name"]: ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        for row in rows
    }


if __name__ == "__main__":
    raise SystemExit(main())
