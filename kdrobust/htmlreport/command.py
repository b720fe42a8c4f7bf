"""`kdrobust report FOLDER ...`: the command line of the page."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdrobust.errors import UsageError
from kdrobust.htmlreport.collect import collect
from kdrobust.htmlreport.page import render, write_report
from kdrobust.htmlreport.server import ReportServer, signature

_HELP = """kdrobust report FOLDER [FOLDER ...] [--out FOLDER] [--watch [--port N]]

  One HTML page of every run at or below the folders: table, clean-robust plane, heat-maps of swept keys, security and
  training curves, examples, classes, config differences, commands. It is written to report.html in the first folder,
  needs no network, and opens in any browser.

  --out FOLDER   write it there instead
  --watch        serve it on 127.0.0.1 instead, made again whenever a run below the folders writes something
  --port N       of --watch; a free one is taken otherwise

Examples
  kdrobust report outputs/sweeps/2026-11-24_10-00-00
  kdrobust report outputs --watch --port 8042"""


@dataclass(kw_only=True)
class _Wish:
    folders: list[Path]
    out: Path | None = None
    watch: bool = False
    port: int = 0


def main(arguments: Sequence[str] = ()) -> int:
    """Write or serve the page.

    Args:
        arguments: see `kdrobust report --help`.

    Returns:
        0.

    Raises:
        UsageError: another argument, no folder, or a port that cannot be used.
        RunFolderError: the page cannot be written.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    wish = _parse(arguments)
    if wish.watch:
        return _serve(wish)
    document = collect(wish.folders)
    path = write_report(wish.out or wish.folders[0], document)
    for line in document["problems"]:
        print(line)
    entries = len(document["runs"])
    print(f"{entries} {'entry' if entries == 1 else 'entries'}: {path}")
    return 0


def _serve(wish: _Wish) -> int:
    server = ReportServer(
        make=lambda: render(collect(wish.folders), live=True),
        signature=lambda: signature(wish.folders),
        port=wish.port,
    )
    stop = threading.Event()
    with server:
        server.refresh()
        print(f"{server.address} (Ctrl-C ends it)", flush=True)
        threading.Thread(target=server.watch, args=(stop,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # the way it is meant to end
            print()
        finally:
            stop.set()
    return 0


def _parse(arguments: Sequence[str]) -> _Wish:
    wish = _Wish(folders=[])
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    left = iter(words)
    for word in left:
        if word == "--watch":
            wish.watch = True
        elif word in ("--port", "--out"):
            value = next(left, None)
            if value is None:
                raise UsageError(f"report {word}: a value is missing")
            if word == "--out":
                wish.out = Path(value)
            elif value.isdecimal() and int(value) < 65536:
                wish.port = int(value)
            else:
                raise UsageError(f"report --port {value}: must be a number from 0 to 65535")
        elif word.startswith("-"):
            raise UsageError(f"report {word}: no such argument; there are --out, --watch and --port")
        else:
            wish.folders.append(Path(word))
    if not wish.folders:
        raise UsageError("report: which folder? e.g. kdrobust report outputs/sweeps/NAME")
    for folder in wish.folders:
        if not folder.is_dir():
            raise UsageError(f"report {folder}: no such folder; runs land in outputs")
    if wish.watch and wish.out:
        raise UsageError("report --watch --out: --watch serves the page and writes none; leave one of them out")
    if wish.port and not wish.watch:
        raise UsageError("report --port: belongs to --watch")
    return wish
