"""`python -m kdrobust.stages.rank FOLDER`: another rank of a job, from the config in the job's own folder."""

from __future__ import annotations

import sys
from pathlib import Path

from kdrobust.config import register
from kdrobust.distributed.watch import end_with_parent
from kdrobust.errors import KdrobustError
from kdrobust.stages.run import run_written


def main() -> int:
    """Run the stage; the exit code is the error's."""
    register()
    end_with_parent()
    try:
        run_written(Path(sys.argv[1]))
    except KdrobustError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
