"""An evaluation as data: JSON with a published schema, and the verdict on every sample beside it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrobust.errors import RunFolderError
from kdrobust.evaluation.figures import summary
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.outcome import AttackOutcome, Bools, Evaluation
from kdrobust.evaluation.snr import noise_summary
from kdrobust.tracking.atomic import write_bytes, write_json
from kdrobust.tracking.manifest import versions

#: Version of the schema; raised when a field changes its meaning.
VERSION = 1
_SCHEMA = Path(__file__).parent / "schema" / "evaluation.json"


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) that every result fits."""
    loaded: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return loaded


def to_result(evaluation: Evaluation, *, confidence: float = 0.95) -> dict[str, Any]:
    """Everything about an evaluation that fits into JSON, checked against the schema.

    Args:
        evaluation: what `evaluate` or `merge` returned.
        confidence: coverage of the Wilson intervals, in (0, 1).

    Returns:
        Plain values: threat, each attack's settings and figures, the worst case, W-Robust, accuracy by class,
        calibration, security curves, checks, seed, batch size, versions.

    Raises:
        RunFolderError: the result does not fit the schema, which is a mistake in an attack's description.
    """

    def figure(correct: Bools) -> dict[str, Any]:
        hits, n = int(correct.sum()), len(correct)
        return {
            "correct": hits,
            "n": n,
            "accuracy": hits / n if n else None,
            "interval": list(wilson(hits, n, confidence)),
        }

    result = {
        "version": VERSION,
        "threat": evaluation.threat,
        "n": len(evaluation),
        "confidence": confidence,
        "seed": evaluation.seed,
        "batch_size": evaluation.batch_size,
        "device": evaluation.device,
        "indices_sha256": hashlib.sha256(evaluation.indices.astype("<i8").tobytes()).hexdigest(),
        "clean": figure(evaluation.clean),
        "attacks": {
            name: {
                **figure(outcome.correct),
                "spec": outcome.spec,
                "seconds": round(outcome.seconds, 3),
                **({"notes": list(outcome.notes)} if outcome.notes else {}),
                **({"broken_by": broken} if (broken := _broken_by(outcome)) else {}),
                **({"snr_db": noise} if (noise := _noise(outcome)) else {}),
            }
            for name, outcome in evaluation.attacks.items()
        },
        "worst_case": {**figure(evaluation.worst_case), "over": list(evaluation.attacks)},
        **summary(evaluation, confidence=confidence),
        "checks": [asdict(check) for check in evaluation.checks],
        "unreliable": evaluation.unreliable,
        "reasons": evaluation.reasons,
        "versions": versions(),
    }
    validate(result)
    return result


def _noise(outcome: AttackOutcome) -> dict[str, Any] | None:
    column = outcome.extra.get("snr_db")
    return None if column is None else noise_summary(column)


def _broken_by(outcome: AttackOutcome) -> dict[str, int]:
    """Of an attack made of several: how many samples each of them broke, by its name."""
    names, column = outcome.spec.get("broken_by"), outcome.extra.get("broken_by")
    if not names or column is None:
        return {}
    run = outcome.spec.get("attacks", names)
    return {name: int((column == place).sum()) for place, name in enumerate(names) if name in run}


def validate(result: dict[str, Any]) -> None:
    """Check a result against the schema.

    Raises:
        RunFolderError: it does not fit; names the place.
    """
    import jsonschema

    # measured numbers may be tuples or infinite: what counts is the JSON that will be written
    try:
        jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(result)))
    except jsonschema.ValidationError as error:
        raise RunFolderError(f"evaluation result: {error.json_path}: {error.message}") from None


def per_sample(evaluation: Evaluation) -> dict[str, NDArray[Any]]:
    """The arrays of `samples.npz`: indices, labels, clean, each attack's verdict by its name, worst_case.

    An attack's distances and further numbers stand beside it as `NAME/distance`, `NAME/confidence`, `NAME/queries` ...,
    the answers without attack as `clean/confidence` ... Verdicts are bool, true where the sample is still classified
    correctly.
    """
    verdicts = {name: outcome.correct for name, outcome in evaluation.attacks.items()}
    numbers = {
        f"{name}/{key}": values
        for name, outcome in evaluation.attacks.items()
        for key, values in {"distance": outcome.distance, **outcome.extra}.items()
    }
    numbers |= {f"clean/{key}": values for key, values in evaluation.answers.items()}
    return {
        "indices": evaluation.indices,
        "labels": evaluation.labels,
        "clean": evaluation.clean,
        **verdicts,
        **numbers,
        "worst_case": evaluation.worst_case,
    }


def write_samples(path: str | Path, evaluation: Evaluation) -> None:
    """Write `per_sample` as a compressed npz, in one step.

    Raises:
        RunFolderError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **per_sample(evaluation))
    write_bytes(path, buffer.getvalue())


def write_evaluation(folder: str | Path, evaluation: Evaluation, *, confidence: float = 0.95) -> dict[str, Any]:
    """Write `evaluation.json` and `samples.npz` into a folder; returns what `to_result` gives.

    Raises:
        RunFolderError: the files cannot be written, or the result does not fit the schema.
    """
    result = to_result(evaluation, confidence=confidence)
    write_samples(Path(folder) / "samples.npz", evaluation)
    write_json(Path(folder) / "evaluation.json", result)
    return result
