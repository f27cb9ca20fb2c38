"""The tables of the READMEs equal those generated from the results."""

import pytest

from ffcv_ssl.benchmarks import readme_table
from ffcv_ssl.benchmarks.goals import GOALS, goals_table


@pytest.fixture
def run_result(make_result):
    """Build the JSON of a run of three workloads with first batch and memory."""
    first = {
        "workload": "simclr2",
        "key": "ours_pip",
        "name": "ffcv_ssl",
        "kind": "ours",
        "status": "ok",
        "reason": "",
    }
    return {
        "workers": 2,
        "machine": {
            "cores": 2,
            "cpu": "a CPU",
            "load_average": 0.1,
            "python": "3.11",
            "versions": {"torch": "2"},
            "commit": "abc",
        },
        "workloads": [make_result("crop1"), make_result("simclr2"), make_result("train2")],
        "first_batch": [first | {"cache": "warm", "seconds": [0.5, 0.75, 2.0]}],
        "memory": {
            "status": "ok",
            "title": "20 views",
            "batch_bytes": 1,
            "idle": 1e9,
            "peak": 1.5e9,
            "after_epoch": [1, 1],
        },
    }


@pytest.mark.parametrize(
    "path",
    list(readme_table.blocks(readme_table.HERE / "results")),
    ids=lambda path: path.parent.name,
)
def test_readme__holds_what_the_results_generate(path):
    """The README equals the output of `python benchmarks/readme_table.py`."""
    block = readme_table.blocks(readme_table.HERE / "results")[path]
    text = path.read_text(encoding="utf-8")
    assert text == readme_table.inserted(text, block, path)


def test_summary__begins_with_the_row_of_pip(run_result):
    """Each workload has a row for the pip install, then one for the native decoder."""
    lines = readme_table.summary(run_result).splitlines()
    assert lines[2] == "| crop1 | pip install | 100 | 0.25 | (4.0) | - | - | - | - |"
    assert lines[3] == "|  | native decoder | 200 | 0.50 | (8.0) | - | - | - | - |"


def test_summary__tells_the_start_of_an_epoch(run_result):
    """A second table has the milliseconds to the first batch, without the training workload."""
    lines = readme_table.summary(run_result).splitlines()
    head = lines.index(next(line for line in lines if line.startswith("| ms to the first batch")))
    assert lines[head].startswith("| ms to the first batch | pip install | native decoder | FFCV |")
    assert lines[head + 2] == "| crop1 | 250 | 250 | 250 | - | - | - | - |"
    assert not any(line.startswith("| train2") for line in lines[head:])
    assert "epochs of at least 100 images or 5 s, without their start" in readme_table.summary(
        run_result
    )


def test_summary__of_older_results_has_no_starts(run_result):
    """Without measured starts there is no table of starts."""
    for each in run_result["workloads"]:
        for row in each["rows"]:
            del row["start_s"]
    assert "ms to the first batch" not in readme_table.summary(run_result)


def test_summary__tells_first_batch_and_memory(run_result):
    """First batch and memory follow the table, as medians."""
    text = readme_table.summary(run_result)
    assert "warm kernel cache 0.75 s" in text
    assert "0.50 GB" in text


def test_details__show_every_table(run_result):
    """The details hold all workloads, the machine and the versions of the peers."""
    text = readme_table.details(run_result)
    assert text.count("median of 3 epochs") == 3
    assert "ffcv: ffcv 1.0.2" in text
    assert "a CPU" in text


def test_goals__compare_with_their_limit(run_result):
    """A goal shows its value and whether it is met, or a dash if it was not measured."""
    lines = {line[0]: line[1:] for line in goals_table(run_result)}
    assert lines["`crop1` against FFCV"] == ["≥ 2 x", "4.00 yes", "8.00 yes"]
    assert lines["`crop1` against plain decode"] == ["≥ 0.85", "0.25 no", "0.50 no"]
    assert lines["first batch of `simclr2`, warm kernel cache"] == ["≤ 1 s", "0.75 yes", "-"]
    assert lines["`emp20` against Pillow"] == ["≥ 15 x", "-", "-"]
    assert len(lines) == len(GOALS) + 1


def test_inserted__replaces_only_what_is_between_the_markers(tmp_path):
    """The text around the markers stays; missing markers are an error."""
    path = tmp_path / "README.md"
    text = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    assert (
        readme_table.inserted(text, "new", path)
        == f"before\n{readme_table.BEGIN}\nnew\n{readme_table.END}\nafter\n"
    )
    with pytest.raises(SystemExit, match="missing"):
        readme_table.inserted("no markers", "new", path)
