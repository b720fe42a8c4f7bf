"""`python scripts/teacher.py [overrides]` is `kdrobust teacher [overrides]`."""

import sys

from kdrobust.cli import main

if __name__ == "__main__":
    sys.exit(main(["teacher", *sys.argv[1:]]))
