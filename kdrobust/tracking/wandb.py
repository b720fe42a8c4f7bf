"""Weights & Biases as a logger that never asks anything."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from kdrobust.tracking.account import choose_mode, masked
from kdrobust.tracking.recorder import Recorder, sweep_of
from kdrobust.tracking.secrets import redacted

_log = logging.getLogger("kdrobust")


class WandbRun(WandbLogger, Recorder):
    """A run whose id follows from its folder, so that a resumed run goes on in the same one.

    Online where an account and a network are there, else offline: no prompt, ever. The run holds the resolved config,
    the metrics, the result as tables, the plots, and as artifacts what the run made and what it learnt from. Artifacts
    are named by their content, so a student's input is its teacher's output. The run is closed with the training, so
    that the next job of a sweep in this process begins its own. A W&B agent's run keeps the agent's id.

    Args:
        project: W&B project.
        folder: the run's folder.
        name: shown name.
        job_type: the stage.
        group: groups runs; null: the sweep's name in a sweep.
        artifacts: whether checkpoints and stored outputs are kept as artifacts; offline they stay where they are.
    """

    def __init__(
        self,
        *,
        project: str,
        folder: str,
        name: str,
        job_type: str = "train",
        group: str | None = None,
        artifacts: bool = True,
    ) -> None:
        mode, self.reason = choose_mode()
        os.environ.setdefault("WANDB_SILENT", "true")
        self.mode = mode
        self.artifacts = artifacts
        agent = "WANDB_SWEEP_ID" in os.environ
        # absolute: W&B reads a relative one from where its first run in this process began
        home = str(Path(folder).resolve())
        identity = None if agent else hashlib.sha256(home.encode()).hexdigest()[:12]
        super().__init__(
            project=project,
            save_dir=home,
            name=name,
            id=identity,
            job_type=job_type,
            group=group,
            resume="allow" if mode == "online" and not agent else None,
            mode=mode,
        )
        # Lightning passes it on, and W&B warns of it
        self._wandb_init.pop("anonymous", None)

    @rank_zero_only
    def begin(self, config: Mapping[str, Any]) -> None:
        """Open the run with its config, in its sweep's group; offline where the server refuses it."""
        self._wandb_init["group"] = self._wandb_init.get("group") or sweep_of(config)
        try:
            self.experiment.config.update(redacted(config), allow_val_change=True)
        except Exception as error:
            if self.mode != "online":
                raise
            told = masked(str(error)).splitlines() or [type(error).__name__]
            self.mode, self.reason, self._experiment = "offline", f"refused: {told[0]}", None
            # W&B's service may still hold the id of the run it could not open
            self._wandb_init |= {"mode": "offline", "resume": None}
            if self._wandb_init.get("id"):
                self._wandb_init["id"] += "-offline"
            self.experiment.config.update(redacted(config), allow_val_change=True)
        if self.mode == "offline":
            _log.info("wandb: offline (%s)", self.reason)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing: the run stays open for the result, until `close`."""

    @rank_zero_only
    def record(self, result: Mapping[str, Any], folder: Path) -> None:
        """Add the result: summary, tables, plots, and the lineage as artifacts."""
        import wandb

        run: Any = self.experiment
        figures = {f"validation/{name}": value for name, value in result.get("validation", {}).items()}
        costs = {f"model/{name}": value for name, value in result.get("model", {}).items()}
        run.summary.update({**figures, **costs, "seconds": result["seconds"], "config_hash": result["config_hash"]})
        rows = [[name, float(value)] for name, value in {**figures, **costs}.items()]
        media: dict[str, Any] = {"result": wandb.Table(columns=["figure", "value"], data=rows)}
        if result.get("warnings"):
            media["warnings"] = wandb.Table(columns=["warning"], data=[[text] for text in result["warnings"]])
        pictures = [Path(name) for name in result.get("files", {}).values() if str(name).endswith(".png")]
        media |= {path.stem: wandb.Image(str(folder / path)) for path in pictures if (folder / path).is_file()}
        run.log(media)
        if self.artifacts and self.mode != "disabled":
            self._lineage(run, result, folder)

    def _lineage(self, run: Any, result: Mapping[str, Any], folder: Path) -> None:
        checkpoint = result["checkpoint"]
        if "outputs" in result:
            # what a teacher says, known by the teacher's hash: so a student names what it learnt from
            made = _artifact({"outputs": str(folder), "sha256": checkpoint["sha256"]}, "outputs")
            used = {"teacher": _artifact(checkpoint, "checkpoint")}
        else:
            made = _artifact(checkpoint, "checkpoint")
            used = {name: _artifact(node, key) for name, key, node in origins(result.get("teacher"))}
        known = {name: artifact.name for name, artifact in used.items()}
        run.config.update({"lineage": {"output": made.name, "inputs": known}}, allow_val_change=True)
        for artifact in used.values():
            if self.mode == "online":
                run.use_artifact(artifact)
            else:
                # use_artifact refuses offline runs, though their file format knows inputs: what it would call
                run._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)
        run.log_artifact(made)

    @rank_zero_only
    def close(self, *, failed: bool) -> None:
        """Close the run, and say how to look at it."""
        if self._experiment is None:
            return
        run: Any = self.experiment
        folder = Path(run.dir).parent
        run.finish(exit_code=1 if failed else 0)
        self._experiment = None
        if self.mode == "offline":
            _log.info("wandb: look with `wandb leet %s`, send later with `wandb sync %s`", folder.parent, folder)


def origins(teacher: Mapping[str, Any] | None) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """What a run learnt from, as (teacher's name, `checkpoint` or `outputs`, its node in `result.json`).

    Args:
        teacher: `teacher` of a result: one node, several by name, or None.
    """
    if not teacher:
        return
    nodes = {"teacher": teacher} if "sha256" in teacher else teacher
    for name, node in nodes.items():
        yield name, "outputs" if "outputs" in node else "checkpoint", node


def _artifact(node: Mapping[str, Any], key: str) -> Any:
    import wandb

    # absolute: `wandb sync` may be called from anywhere
    path = Path(str(node.get("path") or node[key])).resolve()
    kind = "outputs" if key == "outputs" else "model"
    artifact = wandb.Artifact(f"{kind}-{node['sha256'][:12]}", type=kind, metadata={"sha256": node["sha256"]})
    # immutable: a finished run's files do not change, so W&B need not copy them
    # of stored outputs the file and its manifest: logs beside them would make each reading another version
    for file in sorted(path.glob("outputs.*")) if path.is_dir() else [path]:
        artifact.add_file(str(file), policy="immutable")
    return artifact
