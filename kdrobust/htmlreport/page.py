"""One HTML file with everything in it: data, pictures, Plotly, style and script. Nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from kdrobust.errors import RunFolderError
from kdrobust.tracking.atomic import write_text

FILE = "report.html"
#: In the order they run.
SCRIPTS = ("base.js", "table.js", "charts.js", "training.js", "panels.js", "main.js")
SELF, NONE = "'self'", "'none'"


def script_json(data: Any) -> str:
    r"""JSON that can stand inside a script element: no `<`, `>` or `&`, so nothing in it ends the element or opens one.

    `<` is written `\u003c`, which JSON reads as the same character; likewise the two line separators that old
    JavaScript does not allow in strings.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def _static(name: str) -> str:
    return (resources.files("kdrobust.htmlreport") / "static" / name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script = str(get_plotlyjs())
    if "</script" in script.lower():
        raise RunFolderError("plotly: this version's script cannot stand inside a page; install another version")
    return script


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def render(document: Mapping[str, Any], *, live: bool = False) -> str:
    """The page.

    The page's content security policy names the hashes of its own scripts: markup that got in by a name or a class
    could not run, even if it were not escaped.

    Args:
        document: what `collect` gave.
        live: the page asks its server for a newer self and reloads; only for `kdrobust report --watch`.

    Returns:
        HTML, about 5 MB for Plotly plus data and pictures.
    """
    own = "\n".join(_static(name) for name in SCRIPTS)
    plotly = _plotly()
    scripts = [f"'sha256-{_hash(script)}'" for script in (plotly, own)]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(scripts)}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            f"connect-src {SELF if live else NONE}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = {
        "POLICY": html.escape(policy),
        "TITLE": html.escape(", ".join(Path(folder).resolve().name for folder in document["folders"])),
        "LIVE": "yes" if live else "no",
        "STYLE": _static("style.css"),
        "DATA": script_json(document),
        "PLOTLY": plotly,
        "SCRIPT": own,
    }
    # one pass over the template: a marker's look-alike in a run's name is not replaced
    pieces = _static("page.html").split("%%")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def write_report(folder: str | Path, document: Mapping[str, Any]) -> Path:
    """Write `report.html` into a folder, whole or not at all.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = Path(folder) / FILE
    write_text(path, render(document))
    return path
