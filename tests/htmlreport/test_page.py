from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from kdrobust.errors import RunFolderError, UsageError
from kdrobust.htmlreport import FILE, collect, main, page, render, write_report
from kdrobust.htmlreport.page import SCRIPTS, script_json
from tests.htmlreport.runs import evaluated, sweep, training

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Reader(HTMLParser):
    """What a browser sees: elements, attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


def evil_runs(root: Path) -> Path:
    config = {"data": {"class_names": [EVIL, "dog"]}}
    training(root / "a", name=EVIL, overrides=[f"run.name={EVIL}", "x=1"])
    evaluated(root / "b", checkpoint=str(root / "a" / "best.ckpt"), name=EVIL, config=config, reasons=[EVIL])
    return root


@pytest.mark.parametrize("live", [False, True])
def test_nothing_in_a_name_gets_out_of_the_data(tmp_path: Path, live: bool) -> None:
    text = render(collect([evil_runs(tmp_path)]), live=live)
    assert EVIL not in text
    assert text.count("</script>") == 3
    reader = Reader(text)
    assert reader.tags.count("script") == 3
    assert "img" not in reader.tags
    document = json.loads(reader.scripts[0])
    assert document["runs"][0]["name"] == EVIL
    assert document["runs"][1]["classes"]["labels"][0] == EVIL


def test_script_json_reads_back() -> None:
    data = {"</script>": "<!-- & \u2028 \u2029 ]]> ε"}
    text = script_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_a_folder_name_cannot_leave_the_title_or_fill_a_marker(tmp_path: Path) -> None:
    folder = tmp_path / "<b>%%DATA%%&"
    folder.mkdir()
    text = render(collect([folder]))
    assert "<title>&lt;b&gt;%%DATA%%&amp; · kdrobust report</title>" in text
    assert Reader(text).tags.count("b") == 0


@pytest.mark.parametrize(("live", "connect"), [(False, "'none'"), (True, "'self'")])
def test_the_policy_lets_only_the_page_s_own_scripts_run(tmp_path: Path, live: bool, connect: str) -> None:
    import base64
    import hashlib

    text = render(collect([tmp_path]), live=live)
    reader = Reader(text)
    policy = next(
        a["content"] for t, a in reader.found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in unescape(policy or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == connect
    # between the elements' tags, for HTMLParser may join or split what it hands on
    inside = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in inside]
    assert rules["script-src"].split() == hashes
    assert "unsafe-eval" not in policy
    names = [name for _, attributes in reader.found for name in attributes]
    assert not [name for name in names if name.startswith("on")]


def test_nothing_is_fetched(tmp_path: Path) -> None:
    for tag, attributes in Reader(render(collect([tmp_path]))).found:
        for name in ("src", "href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)


def test_own_scripts_write_no_html() -> None:
    for name in SCRIPTS:
        text = (resources.files("kdrobust.htmlreport") / "static" / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
        assert len(text.splitlines()) < 400


def test_a_page_without_results(tmp_path: Path) -> None:
    path = write_report(tmp_path, collect([tmp_path]))
    assert path == tmp_path / FILE
    document = json.loads(Reader(path.read_text(encoding="utf-8")).scripts[0])
    assert (document["runs"], document["problems"]) == ([], [])


def test_a_plotly_that_would_end_its_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.offline

    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "x='</SCRIPT>'")
    page._plotly.cache_clear()
    try:
        with pytest.raises(RunFolderError, match="another version"):
            render({"folders": ["x"]})
    finally:
        page._plotly.cache_clear()


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep(tmp_path)
    (folder / "broken").mkdir()
    (folder / "broken" / "result.json").write_text("{")
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "broken/result.json: cannot be read" in said
    assert f"10 entries: {folder / FILE}" in said
    assert (folder / FILE).stat().st_size > 1_000_000
    assert main([str(folder), "--out", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / FILE).is_file()
    assert main(["--help"]) == 0
    assert "--watch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which folder"),
        (["nowhere"], "report nowhere: no such folder"),
        (["--fast"], "report --fast: no such argument"),
        ([".", "--port"], "a value is missing"),
        ([".", "--port", "x"], "--port x: must be a number"),
        ([".", "--port=70000", "--watch"], "--port 70000: must be a number"),
        ([".", "--port", "80"], "belongs to --watch"),
        ([".", "--watch", "--out", "x"], "leave one of them out"),
    ],
)
def test_a_mistake_gets_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        main(arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_knows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kdrobust import cli

    assert cli.main(["report", str(tmp_path)]) == 0
    assert cli.main(["reprot", str(tmp_path)]) == 2
    assert "did you mean report?" in capsys.readouterr().err


def test_static_files_are_in_the_wheel_s_folder() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[2]
    wheel: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["packages"] == ["kdrobust"]
    assert not {"include", "exclude", "only-include"} & set(wheel)
    names = {each.name for each in (resources.files("kdrobust.htmlreport") / "static").iterdir()}
    assert {*SCRIPTS, "page.html", "style.css"} <= names
