"""`python scripts/distill.py [overrides]` is `kdrobust distill [overrides]`."""

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
