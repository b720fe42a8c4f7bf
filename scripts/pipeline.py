"""`python scripts/pipeline.py [overrides]` is `kdrobust pipeline [overrides]`."""

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main(["pipeline", *sys.argv[1:]]))
