"""`python scripts/docs_trust_checks.py` writes docs/trust-checks.md from the list of trust checks."""

import sys
from pathlib import Path

from kdrobust.evaluation.checks.document import PAGE, markdown

if __name__ == "__main__":
    (Path(__file__).resolve().parents[1] / PAGE).write_text(markdown(), encoding="utf-8")
    sys.exit(0)
