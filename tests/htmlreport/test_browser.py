"""The page as Chromium shows it; skipped where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdrobust.htmlreport import ReportServer, collect, render, signature, write_report
from tests.htmlreport.browser import CHROMIUM, Page, chromium
from tests.htmlreport.runs import sweep, training
from tests.htmlreport.test_page import evil_runs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
PANELS = ("table", "pareto", "heat", "security", "training", "gallery", "classes", "diff")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("out"), collect([sweep(tmp_path_factory.mktemp("runs"))]))


@pytest.fixture
def page(browser: Page) -> Page:
    browser.errors.clear()
    browser.requests.clear()
    browser.look()
    return browser


def rows(page: Page) -> int:
    return int(page.ask("document.querySelectorAll('#table tbody tr:not(.detail)').length"))


def choose(page: Page, key: str, value: str) -> None:
    page.ask(
        f"(() => {{ const s = document.querySelector('[data-key=\"{key}\"]'); s.value = '{value}';"
        " s.dispatchEvent(new Event(s.tagName === 'INPUT' ? 'input' : 'change')); })()"
    )


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_every_panel_is_filled_and_nothing_complains(page: Page, report: Path, width: int, dark: bool) -> None:
    page.look(width=width, dark=dark)
    page.open(report.as_uri())
    for panel in PANELS:
        where = "#table" if panel == "table" else f"#{panel} .panel"
        assert page.ask(f"document.querySelector('{where}').childElementCount") > 0, panel
        assert page.ask(f"document.querySelector('{where} > .empty')?.textContent ?? ''") == "", panel
    assert page.ask("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 5
    assert page.ask("document.documentElement.scrollWidth") <= width
    page.wait("document.querySelector('#gallery img').naturalWidth === 4")
    assert page.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(16, 19, 23)" if dark else "rgb(245, 246, 248)"
    )
    assert page.errors == []
    assert [address for address in page.requests if not address.startswith(("file:", "data:", "blob:"))] == []


def test_a_chart_follows_its_card_and_shows_equal_runs_near(page: Page, report: Path) -> None:
    page.look(width=390)
    page.open(report.as_uri())
    inside = (
        "(() => { const card = document.querySelector('#pareto'), plot = card.querySelector('.main-svg');"
        " return plot.getBoundingClientRect().right <= card.getBoundingClientRect().right; })()"
    )
    # as a scroll bar that appears does: the window stays as it is
    page.ask("document.querySelector('main').style.paddingRight = '60px'")
    deadline = time.monotonic() + 5
    while not page.ask(inside) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert page.ask(inside)
    assert page.ask("JSON.stringify(around([0.5, 0.5]).range)") == "[0.48,0.52]"


def test_filters_filter_every_panel_and_clear(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    assert rows(page) == 10
    choose(page, "filter stage", "evaluate")
    assert rows(page) == 1
    assert "1 of 10" in page.ask("document.querySelector('#count').textContent")
    page.wait("document.querySelector('#training .panel > .empty') !== null")
    choose(page, "filter stage", "")
    choose(page, "filter text", "alpha=0.5 temperature=4")
    assert rows(page) == 2
    choose(page, "filter text", "no such thing")
    assert "No run passes" in page.ask("document.querySelector('#table').textContent")
    page.ask("[...document.querySelectorAll('#filters button')].at(-1).click()")
    assert rows(page) == 10
    assert page.errors == []


def test_sorting_by_a_heading(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    read = "[...document.querySelectorAll('td[data-label=Robust]')].map(td => parseFloat(td.textContent))"
    page.ask("document.querySelector('[data-sort=robust]').click()")
    down = page.ask(read)
    assert down == sorted(down, reverse=True)
    assert page.ask("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.ask("document.querySelector('[data-sort=robust]').click()")
    assert page.ask(read) == sorted(down)
    assert page.ask("document.activeElement.dataset.sort") == "robust"


def test_a_row_opens_with_command_and_reason_and_flags_show(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    page.ask("document.querySelector('#run-0 button').click()")
    detail = page.ask("document.querySelector('tr.detail').textContent")
    assert "kdrobust distill method.alpha=0.1 method.temperature=1 seed=0" in detail
    assert "S3: an unbounded attack leaves 40 % standing" in detail
    assert page.ask("document.querySelector('#run-0 .flag').title").startswith("Not to be trusted: S3")
    for panel in ("pareto", "heat", "security", "classes", "gallery"):
        assert "S3" in page.ask(f"document.querySelector('#{panel} .panel').textContent"), panel


def test_heat_map_and_pareto_say_what_the_runs_say(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    trace = "document.querySelector('#heat .chart').data[0]"
    assert page.ask(f"{trace}.x") == ["0.1", "0.5"]
    assert page.ask(f"{trace}.y") == ["1", "4"]
    assert page.ask(f"{trace}.z")[1][0] == pytest.approx(0.6 - 0.02 - 0.04)
    assert "n = 2" in page.ask(f"{trace}.text")[0][0]
    choose(page, "heat value", "clean")
    assert page.ask(f"{trace}.z")[0][1] == pytest.approx(0.9 + 0.005)
    everyone = page.ask("document.querySelector('#pareto .chart').data.find(t => t.name === 'rslad').x.length")
    page.ask("document.querySelector('[data-key=\"pareto only\"]').click()")
    front = page.ask("document.querySelector('#pareto .chart').data.find(t => t.name === 'rslad').x.length")
    assert (everyone, front) == (8, 2)
    assert page.ask("document.querySelector('#pareto .chart').layout.shapes.length") == 2


def test_overfitting_is_marked(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    marker = page.ask("document.querySelector('#training .chart').data.find(t => t.name === 'robust overfitting')?.x")
    assert marker == [2]
    assert "robust overfitting" in page.ask("document.querySelector('#training .panel .warning').textContent")


def test_the_switch_changes_the_theme_and_print_is_light(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    colour = "document.querySelector('#pareto .chart').layout.font.color"
    light = page.ask(colour)
    page.ask("document.querySelector('#theme').click()")
    assert page.ask("document.documentElement.dataset.theme") == "dark"
    assert page.ask(colour) != light
    page.ask("dispatchEvent(new Event('beforeprint'))")
    assert page.ask(colour) == light
    page.ask("dispatchEvent(new Event('afterprint')); document.querySelector('#theme').click()")
    assert page.ask(colour) == light


def test_names_that_are_markup_stay_text(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path / "out", collect([evil_runs(tmp_path / "runs")])).as_uri())
    assert page.ask("document.querySelectorAll('img[src=x]').length") == 0
    assert page.ask("document.scripts.length") == 3
    assert "<img src=x" in page.ask("document.querySelector('#table').textContent")
    assert "<img src=x" in page.ask("document.querySelector('#classes details').textContent")
    assert page.errors == []


def test_a_page_without_runs_says_so_in_every_panel(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path, collect([tmp_path])).as_uri())
    for panel in PANELS:
        where = "#table" if panel == "table" else f"#{panel} .panel"
        assert page.ask(f"document.querySelectorAll('{where} > .empty').length") == 1, panel
    assert page.errors == []


def test_the_watched_page_refreshes_itself_and_keeps_its_filters(page: Page, tmp_path: Path) -> None:
    training(tmp_path / "a", name="first")
    server = ReportServer(make=lambda: render(collect([tmp_path]), live=True), signature=lambda: signature([tmp_path]))
    server.refresh()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page.open(server.address)
        page.wait("document.querySelector('#live').textContent.includes('live')")
        choose(page, "filter text", "rslad")
        assert rows(page) == 1
        time.sleep(0.1)
        training(tmp_path / "b", name="second")
        assert server.refresh()
        page.wait("document.querySelectorAll('#table tbody tr').length === 2", 15)
        assert page.ask("document.querySelector('[data-key=\"filter text\"]').value") == "rslad"
        assert page.errors == []
        page.call("Page.navigate", url="about:blank")
    finally:
        server.shutdown()
        server.server_close()
