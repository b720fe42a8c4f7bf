"""The page about the trust checks, made from their list."""

from __future__ import annotations

from dataclasses import fields

from kdrobust.evaluation.checks.probe import REGISTRY
from kdrobust.evaluation.checks.settings import CheckSettings

#: Where the page stands, from the root of the repository.
PAGE = "docs/trust-checks.md"

_HEAD = """\
# Trust checks

<!-- made by `scripts/docs.py`; edit the checks, not this page -->

A robust accuracy is an upper bound: a stronger attack may lower it, and a broken attack or a model that hides its
gradients makes it worthless. Every evaluation therefore runs these checks (`evaluation.checks=true`). Their
definitions, verdicts and numbers stand in the result under `checks`.

- **fail**: the figures are unreliable. Tables, plots and results say so, with the reason.
- **warn**: look at it before you believe the figure. It stays reliable.
- **skipped**: nothing to judge by, for example no survivors.

The checks look at few samples, drawn with the classes in proportion and the same ones every time. Their ascent, their
random search and their surrogate are written apart from the attacks: a check must not share the mistake it looks for.
"""

_SETTINGS = """\
## How much they look at

`kdrobust.evaluation.CheckSettings`. With these, all checks together cost less than twice PGD-20 on 540 samples on an
honest model, counted in passes. On very small networks they take longer than that: small batches leave the processor
idle. On a model without gradients S3 alone adds up to 12,800.
"""

_TAIL = """\
## Where they stop

- Passing says that nothing was found with this effort, not that the figure is exact. Report a strong suite's figures.
- A model that keeps the test labels and answers from them everywhere within ε of a test sample, with honest slopes,
  passes. S17 sees memory of exact pixels only. Evaluate on samples that the model's makers never had.
- S2 leaves a margin: on honest students PGD-20 on cross-entropy alone leaves up to 8 points to a search without
  gradients. That is a weak attack, and a warning; add an attack on the margin.
- S2, S5, S7 and S8 need an attack under the evaluation's own norm and ε that may use gradients. S13 attacks again only
  where an attack's description is enough to build it.

## A new one

One function under `@trust_check` in `kdrobust/evaluation/checks/`; it is listed, run and documented from there.
"""


def markdown() -> str:
    """The page as Markdown text."""
    listed = sorted(REGISTRY.values(), key=lambda entry: int(entry.id[1:]))
    rows = [f"| {each.id} | {each.name} | {each.definition} | {each.severity} | {each.cost} |" for each in listed]
    table = [
        "| id | name | what is measured, and when it fires | worst verdict | cost |",
        "| --- | --- | --- | --- | --- |",
    ]
    settings = ["| setting | default | meaning |", "|" + " --- |" * 3]
    meanings = _meanings()
    settings += [f"| `{each.name}` | {_text(each.default)} | {meanings[each.name]} |" for each in fields(CheckSettings)]
    parts = [_HEAD, "\n".join(["## The checks", "", *table, *rows, ""]), _SETTINGS, "\n".join([*settings, ""]), _TAIL]
    return "\n".join(parts)


def _text(default: object) -> str:
    return "none" if default is None else str(default)


def _meanings() -> dict[str, str]:
    """What the settings' docstring says of each."""
    found: dict[str, str] = {}
    name = ""
    for line in (CheckSettings.__doc__ or "").partition("Attributes:")[2].splitlines():
        key, colon, rest = line.strip().partition(": ")
        if colon and key.isidentifier():
            name, found[key] = key, rest
        elif line.strip():
            found[name] += f" {line.strip()}"
    return {key: value.strip().rstrip(".") for key, value in found.items()}
