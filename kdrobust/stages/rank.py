"""`python -m kdrobust.stages.rank STAGE FOLDER`: another rank of a job, from the job's own resolved config."""

from __future__ import annotations

import sys
from pathlib import Path

from kdrobust.config import register
from kdrobust.errors import KdrobustError
from kdrobust.stages.run import load_resolved, run_stage_in


def main() -> int:
    """Run the stage; the exit code is the error's."""
    stage, folder = sys.argv[1], Path(sys.argv[2])
    register()
    try:
        run_stage_in(stage, load_resolved(folder), folder)
    except KdrobustError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
