"""`kdrobust STAGE resume=FOLDER`: go on with an interrupted run, by the configuration in its own folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.hydra_node import hydra_problems
from kdrobust.config.resolved import FILE, read_resolved
from kdrobust.config.trust import consenting, read_typed, require_consent
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.streams import go_on_without
from kdrobust.tracking.folder import is_finished
from kdrobust.tracking.secrets import secret_keys

KEY = "resume"


def resume(stage: str, arguments: Sequence[str]) -> Any:
    """Run a stage again in a folder it was interrupted in.

    Args:
        stage: which stage.
        arguments: of the command line: `resume=FOLDER`, and what of the run's own code the user trusts
            (`trusted_modules=[NAME]`, `model.trust=true`); nothing else.

    Returns:
        What the stage returns; None where the run is finished, which is said.

    Raises:
        UsageError: other arguments, or no folder of such a run.
    """
    (given,) = [text for text in arguments if text.startswith(f"{KEY}=")][:1]
    trusted, others = read_typed([text for text in arguments if text != given])
    if others:
        raise UsageError(f"{others[0]}: {given} goes on by the run's own configuration; leave out everything else")
    folder = Path(given.partition("=")[2]).expanduser()
    cfg = _config(stage, folder, given)
    if is_finished(folder):
        print(f"{folder}: is finished, see result.json there; without {KEY}= the same settings make a new folder")
        return None
    if secrets := secret_keys(OmegaConf.to_container(cfg)):
        raise UsageError(f"{given}: {secrets[0]} held a secret, which is not kept; give the run's own command again")
    with consenting(trusted):
        require_consent(cfg)
        return _go_on(cfg, folder, stage)


def _go_on(cfg: DictConfig, folder: Path, stage: str) -> Any:
    go_on_without()
    _log_as_before(folder)
    # slow to import, and not needed for a refusal
    from kdrobust.stages.run import run_config, score

    return score(run_config(cfg, asked=True), stage)


def _config(stage: str, folder: Path, given: str) -> DictConfig:
    if not folder.is_dir():
        raise UsageError(f"{given}: no such folder; runs of this stage lie in {Path('outputs', stage)}")
    if (folder.parent / "sweep.json").exists():
        raise UsageError(f"{given}: a job of a sweep; use kdrobust sweep resume {folder.parent}")
    try:
        cfg = read_resolved(folder)
        place = Path(str(cfg.run.folder))
    except Exception as error:
        # any YAML may stand there
        why = f": {error}" if isinstance(error, CheckpointError) else ""
        raise UsageError(f"{given}: no run of kdrobust: it has no readable {FILE}{why}") from None
    if cfg.stage != stage:
        raise UsageError(f"{given}: a run of stage {cfg.stage}; use kdrobust {cfg.stage} {given}")
    if place.absolute().resolve() != folder.absolute().resolve():
        raise UsageError(
            f"{given}: its run was made as {place}, which its files name; move it back, or start where it was started"
        )
    return cfg


def _log_as_before(folder: Path) -> None:
    from hydra.core.utils import configure_log

    try:
        kept = DictConfig(OmegaConf.load(folder / ".hydra" / "hydra.yaml"))
        if problems := hydra_problems(kept):
            # Python's logging imports and calls what its configuration names
            raise UsageError(problems[0])
        configure_log(kept.hydra.job_logging)
    except Exception:
        # whatever is wrong with that file, the run can go on
        logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
