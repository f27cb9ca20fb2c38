"""Statistics and tables of benchmark results."""

import pytest

from ffcv_ssl.benchmarks import report


def test_ratio__is_taken_within_each_round(make_row):
    """A ratio is the median of the rounds' ratios, not the ratio of the medians."""
    fast, slow = make_row("a", seconds=(1.0, 4.0, 1.0)), make_row("b", seconds=(2.0, 4.0, 6.0))
    assert report.ratio(fast, slow) == 2.0  # of 2, 1, 6
    assert report.ratio(slow, fast) == 0.5


def test_ratio__counts_images_not_epochs(make_row):
    """Epochs of different length are compared by their rate."""
    assert report.ratio(make_row("a", images=[50, 50]), make_row("b", images=[100, 100])) == 0.5


def test_ratio__compares_epochs_that_ended_early(make_row):
    """The rate of each epoch uses its own number of images."""
    row = make_row("a", seconds=(1.0, 4.0, 2.0), images=[50, 400, 300])
    assert report.rates(row) == [50, 100, 150]
    assert report.rate(row) == 100
    assert report.spread(row) == (50, 150)
    assert report.ratio(row, make_row("b", seconds=(1.0, 1.0, 1.0))) == 1.0


def test_ceiling__is_the_fastest_plain_decoder(make_result, make_row):
    """The fastest plain decoder is the upper bound."""
    result = make_result()
    result["rows"].insert(0, make_row("decode_simplejpeg", "ceiling", (0.3, 0.3, 0.3)))
    assert report.ceiling(result)["key"] == "decode_native"


def test_table__keeps_contestants_that_are_absent(make_result):
    """An absent contestant keeps its line, and a remark gives the reason."""
    result = make_result()
    assert ["dali", "absent"] in report.table(result)
    assert "dali: absent: no module" in report.remarks(result)


def test_table__brackets_ratios_to_peers_that_do_less(make_result):
    """The ratio to a peer without hue is in brackets, and a remark names the operation."""
    lines = report.table(make_result())
    header, ffcv = lines[0], next(line for line in lines if line[0] == "ffcv *")
    assert ffcv[header.index("pip install is")] == "(4.00x)"
    assert ffcv[header.index("native decoder is")] == "(8.00x)"
    assert ffcv[header.index("of decode")] == "0.06"
    assert "* ffcv leaves out hue" in report.remarks(make_result())


def test_table__shows_rate_spread_and_views(make_result):
    """Rates are medians over the epochs; the spread is the slowest and the fastest epoch."""
    assert report.table(make_result())[1][:4] == ["ffcv_ssl, pip install", "100", "50 - 100", "200"]


def test_table__tells_the_start_apart(make_result):
    """Milliseconds to the first batch have a column, which is empty for plain decode."""
    lines = report.table(make_result())
    column = lines[0].index("start, ms")
    starts = {line[0]: line[column] for line in lines[1:] if len(line) > 2}
    assert starts["ffcv *"] == "250"
    assert starts["plain decode, native"] == ""


def test_title__tells_how_long_the_epochs_are(make_result):
    """The title gives the images per epoch and the time limit."""
    assert report.title(make_result(num_images=4095)).endswith(
        "median of 3 epochs of 4,095 images or 5 s"
    )


def test_steps__show_what_each_step_adds(make_result, make_row):
    """The first step shows its time, later steps their increase or that the peer lacks them."""
    steps = [
        make_result(f"ladder_{step}", title=f"step by step: {title}")
        for step, title in (("crop", "crop"), ("flip", "+ flip"))
    ]
    for step, seconds, lacks in zip(steps, (1.0, 1.5), ([], ["flip"]), strict=True):
        step["rows"] = [
            make_row("ours_pip", "ours", (seconds,)),
            make_row("ffcv", seconds=(1.0,), lacks=lacks),
        ]
    _, ours, peer = report.steps_table(steps)
    assert ours == ["ours_pip", "20.00", "+10.00", "30.00"]
    assert peer == ["ffcv", "20.00", "lacks", "20.00"]


@pytest.mark.parametrize("render", [report.as_text, report.as_markdown])
def test_rendering__pads_short_lines(render):
    """A line with fewer cells than the header is padded."""
    text = render([["name", "rate"], ["absent"]])
    assert len({len(line.split("|")) for line in text.splitlines()}) == 1


def test_scaling__compares_with_one_thread(make_row, make_result):
    """Each family has a line with the speedup of the most threads over one."""
    rows = [
        make_row(
            f"ours_pip_{count}",
            "ours",
            (2.0 / count,),
            workers=count,
            name=f"ours, {count} threads",
        )
        for count in (1, 2)
    ]
    assert report.scaling_table(make_result(rows=rows))[1] == ["ours", "50", "100", "2.00x"]
