"""`ffcv-ssl bench`."""

import json


def test_bench__measures_reports_and_draws(run, tmp_path):
    """A small run prints a table per workload, keeps absent peers in it, and writes JSON and
    chart.
    """
    out = tmp_path / "results" / "bench.json"
    options = ("--data.images=4", "--data.patch_images=6", "--run.workloads=crop1,emp20")
    options += ("--run.repeats=2", "--run.workers=1", "--run.epoch_images=101", "--run.epoch_s=100")
    outcome = run(
        "bench",
        *options,
        "--peer.only=pillow,ffcv",
        "--peer.ffcv.python=/no/such/python",
        f"--out={out}",
    )
    assert outcome.status == 0, outcome.err
    result = json.loads(out.read_text())
    crop1, emp20 = result["workloads"]
    assert [row["key"] for row in crop1["rows"]] == [
        "ours_pip",
        "ours_native",
        "ffcv",
        "pillow",
        "decode_simplejpeg",
        "decode_native",
    ]
    assert [row["key"] for row in emp20["rows"]] == [
        "ours_pip",
        "ffcv",
        "pillow",
    ]  # pixels are not decoded
    rows = {row["key"]: row for row in crop1["rows"]}
    for key in ("ours_pip", "pillow", "decode_simplejpeg"):
        assert len(rows[key]["seconds"]) == len(rows[key]["start_s"]) == 2, rows[key]
        behind_the_first = 104 if key == "decode_simplejpeg" else 104 - 32
        assert rows[key]["images"] == [behind_the_first] * 2
    assert rows["ours_pip"]["delivers"] == rows["pillow"]["delivers"] == ["uint8 (32, 3, 224, 224)"]
    delivered = {row["key"]: row["delivers"] for row in emp20["rows"] if row["status"] == "ok"}
    assert delivered == {
        "ours_pip": ["uint8 (100, 20, 3, 32, 32)"],
        "pillow": ["uint8 (100, 20, 3, 32, 32)"],
    }
    assert rows["ffcv"]["status"] == "absent"
    assert "FFCV: absent: /no/such/python" in outcome.out
    assert out.with_suffix(".png").stat().st_size > 1000


def test_bench__takes_a_file(run, tmp_path, shapes_files):
    """A .beton of raw images is measured as it is, without plain decode; a second run may keep
    what the first one measured.
    """
    out = tmp_path / "bench.json"
    train, _ = shapes_files
    options = (
        "--data.images=8",
        "--run.workloads=linear",
        "--run.repeats=1",
        "--run.workers=1",
        "--peer.only=none",
    )
    options += ("--run.epoch_images=64", f"--out={out}")
    assert run("bench", train, *options).status == 0
    assert run("bench", train, *options, "--run.workloads=crop1", "--run.keep=1").status == 0
    crop1, linear = json.loads(out.read_text())["workloads"]
    assert crop1["name"] == "crop1"
    assert [(row["key"], row["status"], row["images"]) for row in linear["rows"]] == [
        ("ours_pip", "ok", [32])
    ]


def test_bench__refuses_an_unknown_workload(run):
    """A wrong name ends with the known ones, before anything is measured."""
    outcome = run("bench", "--run.workloads=crop2")
    assert outcome.status == 2
    assert "no 'crop2'. Known: " in outcome.err


def test_bench__refuses_an_epoch_of_one_batch(run):
    """Without a second batch there is no rate; the option that helps is named."""
    outcome = run(
        "bench",
        "--data.images=2",
        "--run.workloads=crop1",
        "--run.epoch_images=32",
        "--peer.only=none",
    )
    assert outcome.status == 2
    assert (
        "an epoch of 32 images is one batch of 32; raise run.epoch_images above 32." in outcome.err
    )


def test_bench__lists_the_peers_flags(run):
    """The help names the Python of every peer."""
    outcome = run("bench", "--help")
    for peer in ("ffcv", "ffcv_ssl_fb", "dali", "torchvision", "pillow"):
        assert f"--peer.{peer}.python" in outcome.out
