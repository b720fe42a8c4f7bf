"""The costs side by side."""

import io

import pytest
from rich.console import Console

from kdrobust.report import cost_markdown, cost_table
from kdrobust.report.costs import seconds_text, size_text


def timed(batch, median, **more):
    entry = {"batch": batch, "median": median, "lower": 0.9 * median, "upper": 1.5 * median, "passes": 30}
    return {**entry, "threads": 1, "device": "cpu", "machine": "a CPU, 2 processors", **more}


@pytest.fixture
def priced(rows):
    rows[0]["results"][0]["model"] |= {"size_bytes": 13.6e6, "checkpoint_bytes": 13.7e6}
    rows[0]["results"][0]["model"]["latency"] = [timed(1, 0.012), timed(128, 1.2)]
    for result in rows[1]["results"]:
        result["model"] = {**result["model"], "latency": [timed(1, 0.0004), timed(128, 0.02)]}
    return rows


def cells(text):
    return {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in text.splitlines()}


def test_markdown_holds_every_cost_and_what_it_bought(priced):
    text = cost_markdown(priced)
    table = cells(text)
    assert text.splitlines()[0].endswith("| teacher | student | teacher / student |")
    assert table["parameters"] == ["3.4 M", "13.4 k", "254 ×"]
    assert table["FLOPs a sample"] == ["2.0 G", "151.2 k", "13,228 ×"]
    assert table["checkpoint on disk"] == ["13.7 MB", "–", "–"]
    assert table["latency, batch 1"] == ["12 ms [10.8 ms–18 ms]", "400 µs [360 µs–600 µs]", "30 ×"]
    assert table["latency, batch 128"][0] == "1.20 s [1.08 s–1.80 s]"
    assert table["robust accuracy, %"] == ["65.0", "46.4", "+18.6"]
    assert table["robust points a MFLOP"][:2] == ["0.0325", "307"]
    assert "median [quartiles] on a CPU, 2 processors (cpu), 1 thread, 30 timed passes" in text
    assert "cannot be compared" not in text


def test_other_threads_and_failed_checks_are_told(priced, result):
    priced[1]["results"][0]["model"]["latency"] = [timed(1, 0.1, threads=2)]
    priced.append({"name": "masked", "results": [result(900, 700, 650, checks=[("S6", "fail", "no gradient")])]})
    text = cost_markdown(priced)
    assert "cannot be compared" in text
    assert "masked †" in text
    assert "failed a trust check" in text
    assert cells(text)["parameters"][2:] == ["–", "–"]


def test_one_model_has_no_ratio_and_none_no_table(priced):
    assert cost_markdown(priced[:1]).splitlines()[0] == "|  | teacher |"
    assert cost_markdown([]) == ""


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_the_same(priced, width):
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(cost_table(priced))
    text = buffer.getvalue()
    for cell in ("3.4 M", "13.4 k", "254 ×", "[10.8 ms–18 ms]", "307"):
        assert cell in text
    assert max(map(len, text.splitlines())) <= width


def test_units():
    assert [seconds_text(value) for value in (2.5, 0.0123, 0.00041)] == ["2.50 s", "12.3 ms", "410 µs"]
    assert [size_text(value) for value in (None, 10, 53_480)] == ["–", "10 B", "53.5 kB"]
