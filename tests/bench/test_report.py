"""Medians, ratios, table and page of the comparison."""

from pathlib import Path

import pytest
from report import BEGIN, CLEAR, CRYPT, END, OURS, Row, gain, medians, plot, replace_between_marks, show, table

CPU = Row("work", "work", "server_cpu_ms_each", "ms CPU", 0.8)
RATE = Row("rate", "work", "per_s", "/s", 1500, more_is_better=True)


def result(server: str, turn: int, **values: float) -> dict[str, object]:
    return {"workload": "w", "figure": "work", "server": server, "round": turn, "values": values}


RESULTS = [
    *(result(OURS, turn, server_cpu_ms_each=cpu, per_s=1000.0) for turn, cpu in enumerate((0.5, 9.0, 0.7))),
    *(result(CLEAR, turn, server_cpu_ms_each=cpu, per_s=250.0) for turn, cpu in enumerate((4.0, 4.2, 5.0))),
]


def test_the_median_is_taken_over_the_rounds_of_each_server() -> None:
    middle = medians(RESULTS)
    assert middle["work", "server_cpu_ms_each", OURS] == 0.7
    assert middle["work", "server_cpu_ms_each", CLEAR] == 4.2
    assert ("work", "server_cpu_ms_each", CRYPT) not in middle


def test_a_gain_above_one_means_cheaper_or_faster() -> None:
    assert gain(CPU, 0.5, 4.0) == 8
    assert gain(RATE, 1000, 250) == 4
    assert gain(CPU, 0.5, None) is None
    assert gain(CPU, None, 4.0) is None


def test_a_row_says_what_was_reached_and_leaves_out_what_was_not_measured() -> None:
    lines = table(RESULTS, [CPU, RATE, Row("other", "never measured", "wall_s", "s")]).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| work | ms CPU | 0.7 | 4.2 | – | 6× | – | 0.8 | reached |"
    assert lines[3] == "| rate | /s | 1,000 | 250 | – | 4× | – | 1,500 | **not reached** |"
    assert {line.count("|") for line in lines} == {10}


def test_values_are_scaled_before_they_are_judged() -> None:
    row = Row("ten thousand", "work", "server_cpu_ms_each", "s CPU", 6, times=10)
    assert "| 7 |" in table(RESULTS, [row])
    assert "**not reached**" in table(RESULTS, [row])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0123456, "0.0123"),
        (0, "0"),
        (0.00001234, "0.0000123"),
        (12.345, "12.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_are_short_and_without_exponent(value: float | None, text: str) -> None:
    assert show(value) == text


def test_a_second_run_replaces_what_the_first_wrote() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n"
    once = replace_between_marks(page, "new")
    assert once == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nrest\n"
    assert replace_between_marks(once, "new") == once


@pytest.mark.parametrize("page", ["no marks", f"{BEGIN} {BEGIN} {END}", f"{BEGIN}"])
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replace_between_marks(page, "new")


def test_the_plot_is_drawn_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "plot.svg", tmp_path / "plot.png"]
    plot(RESULTS, files, [CPU, RATE])
    assert b"<svg" in files[0].read_bytes()[:2000]
    assert files[1].read_bytes().startswith(b"\x89PNG")
