#!/usr/bin/env python3
"""An evaluation of several checkpoints again, with models that differ in their seed alone as one row, mean ± deviation.

    python scripts/benchmarks/seeds.py outputs/evaluate/NAME

Models whose names end in _s0, _s1 ... are seeds of one. Leaves comparison.md, .csv and .png and costs.md in
FOLDER/seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.stages.comparison import print_comparison, write_comparison


def grouped(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a name without its seed, in the order of their first model; every row has its models' results.

    Args:
        models: `models` of an evaluation's `result.json`.
    """
    rows: dict[str, list[Any]] = {}
    for model in models:
        rows.setdefault(re.sub(r"_s\d+$", "", model["name"]), []).extend(model["results"])
    return [{"name": name, "results": results} for name, results in rows.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Group, print and write one evaluation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of `kdrobust evaluate checkpoint=a_s0/best.ckpt,a_s1/best.ckpt,...`")
    folder: Path = parser.parse_args(arguments).folder
    try:
        models = json.loads((folder / "result.json").read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError):
        print(f"{folder}: no result.json of an evaluation of several models; name one", file=sys.stderr)
        return 1
    rows = grouped(models)
    (folder / "seeds").mkdir(exist_ok=True)
    write_comparison(rows, folder / "seeds", costs=rows)
    print_comparison(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
