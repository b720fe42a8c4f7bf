#!/usr/bin/env python3
"""Write the generated pages of docs/: `.venv/bin/python scripts/docs.py`; `--check` only compares (CI does)."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kdrobust.benchmark.leaderboard import leaderboard
from kdrobust.benchmark.page import RESULTS, benchmark_page
from kdrobust.benchmark.plot import redraw
from kdrobust.benchmark.plot import stale as stale_pictures
from kdrobust.config import conf_dir
from kdrobust.conformance import check_case, read_cases
from kdrobust.conformance.recipes import find_recipe
from kdrobust.evaluation.checks.document import markdown as trust_checks_page
from kdrobust.headers import Header, read_header
from kdrobust.listing import NO_LOSSES
from kdrobust.losses.lookup import public_classes, public_functions
from kdrobust.losses.terms import LOSS_MODULES

ROOT = Path(__file__).resolve().parents[1]
VECTORS = ROOT / "tests" / "conformance" / "vectors"


def cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell(entry) for entry in line) + " |" for line in lines)


def headers(group: str) -> dict[str, Header]:
    """Every option of a group to its header."""
    paths = sorted((conf_dir() / group).glob("[!_]*.yaml"))
    return {path.stem: read_header(path) for path in paths}


def conformance() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What the vector files say of each method, and of each loss: names of their cases, how many, and the verdict."""
    seen: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(VECTORS.glob("*.json")):
        for case in read_cases(path):
            recipe, passed = find_recipe(case.method), check_case(case).passed
            names = [f"method {option}" for option in recipe.options]
            names += [f"loss {recipe.loss}"] if recipe.loss else []
            for name in names:
                seen[name][case.method].append(passed)

    def said(kind: str) -> dict[str, str]:
        return {
            name.removeprefix(f"{kind} "): ", ".join(
                f"`{vector}` ({len(passed)})" + ("" if all(passed) else " DIFFERS")
                for vector, passed in sorted(found.items())
            )
            for name, found in seen.items()
            if name.startswith(f"{kind} ")
        }

    return said("method"), said("loss")


def _source(header: Header) -> str:
    text = header["Source"]
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text) if text != "none" else ""


def _details(name: str, header: Header) -> str:
    lines = [f"### `{name}`", "", header.summary + "."]
    lines += ["", f"- Formula: `{header['Formula']}`", f"- Cost: {header['Cost']}"]
    for field in ("Official code", "Pitfall"):
        if header[field]:
            lines.append(f"- {field}: {header[field]}")
    lines += [f"- {note}" for note in header.notes]
    lines += ["", "```", *header["Command"].splitlines(), "```", ""]
    return "\n".join(lines)


def _losses(proved: Mapping[str, str]) -> list[list[str]]:
    rows = []
    for module in LOSS_MODULES:
        for name, loss in {**public_functions(module), **public_classes(module)}.items():
            if name in NO_LOSSES:
                continue
            text = inspect.getdoc(loss) or ""
            summary = re.sub(r"\$[^$]*\$", "…", text.split("\n\n")[0].replace("\n", " ")).split(": …")[0].rstrip(" :,.")
            source = re.search(r"Source: (.+?)\.?(?:\n\n|$)", text, flags=re.DOTALL)
            called = loss.forward if inspect.isclass(loss) else loss
            parameters = inspect.signature(called).parameters.values()
            made = inspect.signature(loss).parameters.values() if inspect.isclass(loss) else []
            options = [each.name for each in (*parameters, *made) if each.kind is inspect.Parameter.KEYWORD_ONLY]
            cited = " ".join(source[1].split()) if source else ""
            rows.append([f"`{name}`", summary, ", ".join(options), cited, proved.get(name, "")])
    return rows


def methods_page() -> str:
    """docs/methods.md."""
    methods, losses = conformance()
    found = headers("method")
    rows = [
        [
            f"[`{name}`](#{name})",
            f"`{header['Formula']}`",
            header["Needs"].split(";")[0],
            str(header.student_passes),
            str(header.teacher_passes),
            _source(header),
            methods.get(
                name,
                "no official numbers in these files" if name not in ("dtkd", "article_mse") else "this project's own",
            ),
        ]
        for name, header in found.items()
    ]
    parts = [
        "# Methods",
        "",
        "Generated by `scripts/docs.py` from the headers of `conf/` and the cases of `tests/conformance/vectors`; CI "
        "compares. S and T are logits of student and teacher, x' the adversarial example, σ_τ the softmax at "
        "temperature τ, KL(p ‖ q) = Σ p log(p/q). Passes are counted per training step with default settings, the "
        "attack's included; a test counts them too.",
        "",
        "The column *conformance* names the cases of the vector files, numbers that the methods' own code returned, "
        "which the method's YAML reproduces, and how many; `python -m kdrobust.conformance FILE` shows each.",
        "",
        table(["method", "loss", "needs", "student passes", "teacher passes", "source", "conformance"], rows),
        "",
        "## Wraps and averages",
        "",
        "They go over any method: `kdrobust distill method=rslad +wrap=[igdm,awp] +average=ema`.",
        "",
    ]
    for group in ("wrap", "average"):
        wraps = headers(group)
        parts += [
            table(
                [group, "what it does", "cost", "source"],
                [
                    [f"`{name}`", each["Formula"] or each.summary, each["Cost"], _source(each)]
                    for name, each in wraps.items()
                ],
            ),
            "",
        ]
    parts += ["## Weightings", "", "`weighting@method.weighting=NAME`, the slot of DTKD.", ""]
    parts.append(
        table(
            ["weighting", "rule", "source"],
            [[f"`{n}`", h.summary, _source(h)] for n, h in headers("weighting").items()],
        )
    )
    parts += [
        "",
        "## Losses",
        "",
        "Any of them is a term's `loss`, or `method.knowledge` of `kd`; those on features come through `+features=NAME "
        "features.student=PATH features.teacher=PATH`.",
        "",
        table(["loss", "what it is", "options", "source", "conformance"], _losses(losses)),
        "",
        "## Each method",
        "",
        *(_details(name, header) for name, header in found.items()),
    ]
    return "\n".join(parts).rstrip() + "\n"


#: Page to what writes it.
PAGES: Mapping[str, Callable[[], str]] = {
    "methods.md": methods_page,
    "trust-checks.md": trust_checks_page,
    "benchmark.md": lambda: benchmark_page(ROOT / RESULTS),
    "leaderboard.html": lambda: leaderboard(ROOT / RESULTS),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or compare: 1 where one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    options = parser.parse_args(arguments)
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / "docs" / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not options.check:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    pictures = stale_pictures if options.check else redraw
    for name in pictures(ROOT / "docs", ROOT / RESULTS):
        stale.append(name)
        if not options.check:
            print(f"drew docs/{name}")
    if options.check and stale:
        print(f"out of date: docs/{', docs/'.join(stale)}; run scripts/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
