"""`python -m kdrobust` is `kdrobust`."""

from __future__ import annotations

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main())
