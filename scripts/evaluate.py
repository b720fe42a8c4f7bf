"""`python scripts/evaluate.py [overrides]` is `kdrobust evaluate [overrides]`."""

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
