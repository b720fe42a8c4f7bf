"""Who belongs to whom: an evaluation to the run that trained its model, a student to its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.htmlreport.panels import flatten, override
from kdrobust.htmlreport.reading import RunFiles, dig, read_run

_TRAINING = ("teacher", "distill")


class Links:
    """Training runs by the hash of their checkpoint, here or beside the checkpoint a result names.

    Args:
        runs: all that were found.
    """

    def __init__(self, runs: Sequence[RunFiles]) -> None:
        self._runs = runs
        self._by_hash = {_sha(run): run for run in runs if run.result.get("stage") in _TRAINING and _sha(run)}
        self._elsewhere: dict[str, RunFiles] = {}
        for run in runs:
            for part in (run.result.get("teacher"), run.result.get("checkpoint")):
                self._look_beside(run, part)

    def _look_beside(self, run: RunFiles, part: Any) -> None:
        if not isinstance(part, Mapping):
            return
        sha, path = part.get("sha256"), part.get("path") or part.get("checkpoint")
        if not path or not sha or sha in self._by_hash or sha in self._elsewhere:
            return
        # a relative path was written from the working folder, which is above the run's folder more often than not
        for base in (Path.cwd(), *run.folder.parents):
            folder = (base / str(path)).parent
            if (folder / "result.json").is_file():
                found = read_run(folder.resolve())
                if _sha(found) == sha and found.result.get("stage") in _TRAINING:
                    self._elsewhere[str(sha)] = found
                    return

    def trainer_of(self, sha: str | None) -> RunFiles | None:
        """The run that made a checkpoint; None where it is not known."""
        return (self._by_hash.get(sha) or self._elsewhere.get(sha)) if sha else None

    def teachers_elsewhere(self, rows: Sequence[dict[str, Any]]) -> Iterator[RunFiles]:
        """Teachers of these rows whose runs lie outside the folders."""
        for sha in dict.fromkeys(row["teacher_sha"] for row in rows):
            if sha in self._elsewhere:
                yield self._elsewhere[sha]


def _sha(run: RunFiles) -> str | None:
    found = dig(run.result, "checkpoint.sha256")
    return str(found) if found else None


def inherit(rows: Sequence[dict[str, Any]], links: Links) -> None:
    """Give evaluations what only training knows, mark teachers, and carry a failed trust check to the model's figures.

    An evaluation gets method, model, seed, overrides and swept settings of the run that trained its checkpoint. The
    training run's own robust accuracy is of a weaker attack on the same model: if an evaluation of that model failed a
    trust check, it is no more to be trusted, and is flagged with the same reason.
    """
    taught = {row["teacher_sha"] for row in rows if row["teacher_sha"]}
    for row in rows:
        trainer = links.trainer_of(row["sha"])
        if row["split"] == "test" and trainer is not None:
            model, _, method = names_of(trainer)
            row["model"], row["method"] = model or row["model"], method or row["method"]
            # a model's seed is the one it was trained with, not the one its evaluation drew starts with
            row["seed"] = trainer.result.get("seed", row["seed"])
            # an evaluation's own name is its data set's more often than not
            row["name"] = str(trainer.result.get("name") or row["name"])
            row["overrides"] = dict(pair for pair in map(override, trainer.overrides) if pair)
            row["choices"] = {key: str(value) for key, value in trainer.choices.items() if value is not None}
            row["trained_config"] = dict(flatten(trainer.config))
            row["trained_by"] = trainer.result["stage"]
        elif row["split"] == "test":
            # how an evaluation was set is in its setting; it sweeps nothing
            row["overrides"] = {}
        row["teacher"] = row["sha"] in taught
    for student in rows:
        for row in rows if student["teacher_sha"] else ():
            # a teacher trained on a student's order was not started by Hydra: the student's choices name it
            if row["sha"] == student["teacher_sha"] and not row["method"] and "model@teacher" in student["choices"]:
                row["model"] = student["choices"]["model@teacher"]
                row["method"] = student["choices"].get("method@teacher_training.method", "")
    _share_reasons(rows)


def _share_reasons(rows: Sequence[dict[str, Any]]) -> None:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["flags"] and row["sha"]:
            reasons.setdefault(row["sha"], []).extend(row["flags"])
    for row in rows:
        if row["split"] == "validation" and row["sha"] in reasons:
            row["flags"] = [f"{reason} (evaluation of this model)" for reason in dict.fromkeys(reasons[row["sha"]])]


def names_of(run: RunFiles) -> tuple[str, str, str]:
    """Model, data and method of a run as its user chose them; empty where no file says it."""
    data = run.result.get("data") or {}
    name = str(data.get("name") or dig(run.config, "data.name") or run.choices.get("data") or "")
    subject = run.result.get("subject")
    if isinstance(subject, Mapping):
        return f"{subject.get('name')} ({subject.get('source')})", name, ""
    stage = run.result.get("stage") or run.config.get("stage")
    if stage not in _TRAINING:
        return "", name, ""
    whose = "teacher" if stage == "teacher" else "student"
    choices = run.choices or _choices_above(run)
    method = choices.get("method") if run.choices else _method_above(run, choices)
    model = choices.get(f"model@{whose}")
    network = dig(run.config, f"{whose}.network._target_") or dig(run.config, "student.network._target_")
    return str(model or str(network or "").rpartition(".")[2]), name, str(method or "")


def _above(run: RunFiles) -> RunFiles | None:
    for folder in list(run.folder.parents)[:4]:
        if (folder / ".hydra" / "hydra.yaml").is_file():
            return read_run(folder)
    return None


def _choices_above(run: RunFiles) -> Mapping[str, Any]:
    above = _above(run)
    return above.choices if above else {}


def _method_above(run: RunFiles, choices: Mapping[str, Any]) -> Any:
    """The method of a part of a pipeline, which Hydra did not start: the choice with its terms in the whole config."""
    above, mine = _above(run), _terms(run.config.get("method"))
    if above is None or mine is None:
        return None
    for key, option in choices.items():
        group, _, place = str(key).partition("@")
        if group == "method" and _terms(dig(above.config, place or "method")) == mine:
            return option
    return None


def _terms(method: Any) -> Any:
    return method.get("terms", method) if isinstance(method, Mapping) else None
