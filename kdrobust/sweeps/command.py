"""`kdrobust sweep status|resume FOLDER`: how far a sweep is, and going on with it. Light until it resumes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdrobust.config.trust import consenting, read_typed
from kdrobust.errors import UsageError
from kdrobust.sweeps.progress import TRIALS, report, trials_report
from kdrobust.sweeps.record import SWEEP, read_jobs, read_sweep
from kdrobust.sweeps.summary import METRICS, check_metric
from kdrobust.sweeps.table import refresh
from kdrobust.tracking.secrets import MASK

USAGE = "kdrobust sweep status|resume FOLDER [metric=NAME]"
#: What a sweep's command holds beside overrides.
_FLAGS = ("--config-dir=", "--config-path=")
_HELP = f"""{USAGE}

  status FOLDER    jobs done, the best settings, what each swept key matters, failures; refreshes sweep.csv; a search's
                   trials
  resume FOLDER    the sweep's command again: completed jobs are skipped, cut ones go on, failed ones run anew

  trusted_modules=[NAME], model.trust=true
                   for resume: what of its own code is trusted; what the folder's files say is not enough
  metric=NAME      what is best by, in what is printed ({", ".join(METRICS)})"""


def main(arguments: Sequence[str], start: Callable[[str, Sequence[str]], Any]) -> int:
    """Run the command.

    Args:
        arguments: what stands after `kdrobust sweep`.
        start: runs a stage with overrides and flags, for `resume`.

    Returns:
        The exit code.

    Raises:
        UsageError: not that, or a folder that holds no sweep.
        KdrobustError: what the resumed sweep ends with.
    """
    if not arguments or any(text in ("-h", "--help") for text in arguments):
        print(_HELP)
        return 0
    trusted, others = read_typed(arguments) if arguments[0] == "resume" else ([], list(arguments))
    words = [text for text in others if not text.startswith("metric=")]
    chosen = [text.partition("=")[2] for text in arguments if text.startswith("metric=")]
    if len(words) > 2 and words[0] == "resume" and all("=" in text for text in words[2:]):
        raise UsageError(
            f"sweep resume: {' '.join(words[2:])}: a sweep is resumed as it was started; for other values type its "
            f"command anew with hydra.sweep.dir={words[1]}: what is unchanged is skipped"
        )
    if len(words) != 2 or words[0] not in ("status", "resume") or len(chosen) > 1:
        raise UsageError(f"{' '.join(['sweep', *arguments])}: expected {USAGE}")
    folder = Path(words[1]).expanduser().absolute()
    known = read_sweep(folder)
    if not known:
        raise UsageError(f"{words[1]}: holds no {SWEEP}; sweeps lie in outputs/sweeps")
    if chosen:
        check_metric(chosen[0])
    if words[0] == "resume" and not _is_command(known):
        raise UsageError(f"{words[1]}: its {SWEEP} does not say what was run; give the command again")
    if words[0] == "resume" and any(MASK in str(text) for text in known["arguments"]):
        raise UsageError(f"{words[1]}: its command held a secret, which is not kept; give the command again")
    if words[0] == "resume":
        with consenting(trusted):
            _resume(words[1], folder, known, start)
        if not chosen:
            return 0
    if (folder / TRIALS).is_file():
        if chosen:
            raise UsageError(f"metric={chosen[0]}: {words[1]} is a search, whose metrics are its own")
        print(trials_report(folder))
    elif known.get("search"):
        print(f"{folder}: no trial has ended yet; they will stand in {TRIALS}")
    elif not read_jobs(folder):
        print(f"{folder}: no job was recorded yet")
    else:
        jobs = refresh(folder) if os.access(folder, os.W_OK) else read_jobs(folder)
        print(report(folder, jobs, chosen[0] if chosen else None))
    return 0


def _is_command(known: dict[str, Any]) -> bool:
    """Whether a sweep's file says what was typed: a stage, overrides, and flags that name a folder of configs."""
    arguments, flags = known.get("arguments"), known.get("flags")
    return (
        known.get("stage") is not None
        and arguments is not None
        and not any(text.startswith("-") for text in arguments)
        and flags is not None
        and all(text.startswith(_FLAGS) for text in flags)
    )


def _resume(given: str, folder: Path, known: dict[str, Any], start: Callable[[str, Sequence[str]], Any]) -> None:
    from kdrobust.sweeps.session import quoted

    there = str(known.get("directory") or "")
    if there and Path(there).resolve() != Path.cwd().resolve():
        # paths in its arguments, and ./conf, were meant from there: a ./conf is the user's only where the user is
        raise UsageError(f"{given}: was started in {there}; go there first: cd {shlex.quote(there)}")
    place = f"hydra.sweep.dir={quoted(str(folder))}"
    start(str(known["stage"]), ["-m", *known.get("flags", []), *known["arguments"], place])
