"""`python scripts/outputs.py [overrides]` is `kdrobust outputs [overrides]`."""

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main(["outputs", *sys.argv[1:]]))
