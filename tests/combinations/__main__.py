"""`python -m tests.combinations`."""

import sys

from tests.combinations.command import main

if __name__ == "__main__":
    sys.exit(main())
