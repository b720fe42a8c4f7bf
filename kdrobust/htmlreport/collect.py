"""One document of all runs below some folders: what the page shows, as plain JSON values."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdrobust.htmlreport.linking import Links, inherit, names_of
from kdrobust.htmlreport.panels import flatten, job_command, mark_undominated, override, share_configs, swept_keys
from kdrobust.htmlreport.panels import threat_text as threat_of
from kdrobust.htmlreport.reading import RunFiles, dig, read_run, run_folders
from kdrobust.intervals import wilson
from kdrobust.version import __version__

#: Examples embedded in the page: so many pictures, so many bytes of PNG at most.
MAX_IMAGES, MAX_IMAGE_BYTES = 60, 12_000_000
_SERIES = re.compile(r"epoch|val/.*|train/(loss|.*accuracy)|lr.*")
_EPOCH = re.compile(r"epoch (\d+)")
#: What only the linking of rows needs.
_INNER = ("overrides", "choices", "sha", "teacher_sha", "hash", "place", "nested", "trained_by", "trained_config")
_PNG = b"\x89PNG\r\n\x1a\n"


def collect(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Read every run below `folders`.

    Args:
        folders: searched for `result.json`, and for runs that have not ended.

    Returns:
        `runs`, one entry a figure pair (a trained model on the validation split, or an evaluated one on the test
        split, or a run without figures yet); `swept`, keys that take several values; `config`, what all configs have
        in common; `images`; `problems`, files left out and why; `folders`, `made`, `version`.
    """
    roots = [Path(folder).resolve() for folder in folders]
    runs = [read_run(folder) for folder in run_folders(roots)]
    links = Links(runs)
    rows: list[dict[str, Any]] = []
    for run in runs:
        rows += [_finish(row, run, roots) for row in _rows(run)]
    rows = _once(rows)
    for teacher in links.teachers_elsewhere(rows):
        rows += [{**_finish(row, teacher, roots), "elsewhere": True} for row in _rows(teacher)]
    inherit(rows, links)
    mark_undominated(rows)
    swept = swept_keys(rows)
    for index, row in enumerate(rows):
        row["id"] = index
        for key in (
            "overrides",
            "choices",
            "sha",
            "teacher_sha",
            "hash",
            "place",
            "nested",
            "trained_by",
            "trained_config",
        ):
            row.pop(key, None)
    images, left = _images(rows)
    problems = [line for run in runs for line in run.problems]
    return {
        "folders": [str(folder) for folder in folders],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "swept": swept,
        "config": share_configs(rows),
        "images": images,
        "images_left": left,
        "problems": problems,
        "runs": rows,
    }


def _rows(run: RunFiles) -> Iterator[dict[str, Any]]:
    result = run.result
    if not result:
        # a damaged result says nothing of its run; a run that has none yet says how far it is
        if run.status and not run.problems:
            yield _row(run)
        return
    if "models" in result:
        for model in result["models"]:
            for one in model.get("results", []):
                if "evaluation" in one:
                    yield _evaluated(run, one, str(one.get("name") or model.get("name") or result["name"]))
    elif "evaluation" in result:
        yield _evaluated(run, result, str(result["name"]))
    elif result["stage"] in ("teacher", "distill"):
        yield _trained(run)


def _row(run: RunFiles) -> dict[str, Any]:
    result, manifest = run.result, run.manifest
    model, data, method = names_of(run)
    stage = str(result.get("stage") or manifest.get("stage") or run.config.get("stage") or "")
    commit = str(dig(manifest, "git.commit") or "")[:12] + (" with local changes" if dig(manifest, "git.dirty") else "")
    alone = job_command(stage, run.overrides) if run.sweep and run.overrides else ""
    parsed = [pair for pair in map(override, run.overrides) if pair]
    seed = result.get("seed", run.config.get("seed"))
    return {
        "name": str(result.get("name") or dig(run.config, "run.name") or run.folder.name),
        "place": run.folder,
        "stage": stage,
        "status": str(run.status.get("status") or ("completed" if result else "unknown")),
        "error": str(run.status.get("error", "")),
        "model": model,
        "data": data,
        "method": method,
        "threat": threat_of(result.get("threat") or {}),
        "eps": (result.get("threat") or {}).get("eps"),
        "seed": seed if isinstance(seed, int) else None,
        "split": "",
        "setting": "",
        "clean": None,
        "robust": None,
        "attack": "",
        "flags": [],
        "warnings": [str(line) for line in result.get("warnings", [])],
        "checked": None,
        "seconds": result.get("seconds"),
        "parameters": (result.get("model") or {}).get("parameters"),
        "started": str(manifest.get("started") or run.status.get("started") or ""),
        "command": alone or str(manifest.get("command", "")),
        "sweep_command": str(manifest.get("command", "")) if alone else "",
        "commit": commit.strip(),
        "overrides": dict(parsed),
        "choices": {key: str(value) for key, value in run.choices.items() if value is not None},
        "settings": {},
        "config": dict(flatten(run.config)),
        "history": {name: values for name, values in run.metrics.items() if _SERIES.fullmatch(name)},
        "best_epoch": None,
        "marks": [],
        "curves": [],
        "classes": None,
        "pictures": [],
        "teacher": False,
        "trained_by": stage,
        "elsewhere": False,
        "nested": False,
        "hash": result.get("config_hash"),
        "sha": (result.get("checkpoint") or {}).get("sha256"),
        "teacher_sha": (result.get("teacher") or {}).get("sha256"),
    }


def _trained(run: RunFiles) -> dict[str, Any]:
    row, result = _row(run), run.result
    validation, attack = result.get("validation") or {}, result.get("validation_attack") or {}
    n, steps = validation.get("samples"), attack.get("steps")
    row |= {
        "split": "validation",
        "clean": _share(validation.get("accuracy"), n),
        "robust": _share(validation.get("robust_accuracy"), n),
        "attack": f"{steps}-step gradient attack" if steps is not None else "",
        "best_epoch": validation.get("epoch"),
        "marks": [mark for line in row["warnings"] for mark in _marks(line)],
        "pictures": _pictures(run, "examples"),
    }
    return _set(row, n)


def _marks(warning: str) -> Iterator[dict[str, Any]]:
    kind = next((kind for kind in ("robust overfitting", "catastrophic overfitting") if warning.startswith(kind)), None)
    for place, epoch in enumerate(_EPOCH.findall(warning)[:2] if kind else []):
        # people count epochs from 1, files from 0
        yield {"epoch": int(epoch) - 1, "kind": kind, "what": "best before" if place == 0 else "seen", "text": warning}


def _evaluated(run: RunFiles, one: Mapping[str, Any], name: str) -> dict[str, Any]:
    row, evaluation, result = _row(run), one["evaluation"], run.result
    over = evaluation["worst_case"]["over"]
    eps = evaluation["threat"]["eps"]
    warned = [check for check in evaluation["checks"] if check["verdict"] == "warn"]
    row |= {
        "name": name,
        "split": "test",
        "threat": threat_of(evaluation["threat"]),
        "eps": eps,
        "seed": one.get("seed", row["seed"]),
        "clean": _figure(evaluation["clean"]),
        "robust": _figure(evaluation["worst_case"]) if over else None,
        "attack": f"worst of {', '.join(over)}" if len(over) > 1 else ", ".join(over),
        "flags": [str(each) for each in evaluation["reasons"]] if evaluation["unreliable"] else [],
        "warnings": row["warnings"] + [f"{each['id']} {each['name']}: {each['detail']}" for each in warned],
        "checked": bool(evaluation["checks"]),
        "curves": _curves(evaluation),
        "classes": _classes(evaluation, (one.get("data") or result.get("data") or {}), run.config),
        "pictures": _pictures(run, "examples"),
        "hash": one.get("config_hash", row["hash"]),
        "sha": (one.get("checkpoint") or {}).get("sha256", row["sha"]),
        "parameters": (one.get("model") or {}).get("parameters", row["parameters"]),
        "data": row["data"] or str((one.get("data") or {}).get("name", "")),
        "seconds": one.get("seconds", row["seconds"]),
        "stage": "evaluate" if row["stage"] == "pipeline" else row["stage"],
        "nested": row["stage"] == "pipeline",
        "history": {},
    }
    if evaluation["unreliable"] and not row["flags"]:
        row["flags"] = ["a trust check failed"]
    return _set(row, evaluation["n"])


def _set(row: dict[str, Any], n: Any) -> dict[str, Any]:
    parts = [row["data"], row["threat"], row["split"], f"n = {n}" if n else "", row["attack"]]
    row["setting"] = " · ".join(part for part in parts if part)
    return row


def _share(value: Any, n: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    figure = {"value": round(float(value), 6), "n": n}
    if isinstance(n, int) and n > 0 and 0 <= float(value) <= 1:
        low, high = wilson(round(float(value) * n), n)
        figure |= {"low": round(low, 6), "high": round(high, 6)}
    return figure


def _figure(figure: Mapping[str, Any]) -> dict[str, Any] | None:
    if figure["accuracy"] is None:
        return None
    low, high = figure["interval"]
    return {"value": round(figure["accuracy"], 6), "low": round(low, 6), "high": round(high, 6), "n": figure["n"]}


def _curves(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = ("eps", "accuracy", "low", "high", "n")
    norm = evaluation["threat"]["norm"]
    found = [
        {**{key: curve[key] for key in keys}, "attack": name, "exact": curve["exact"], "norm": norm}
        for name, curve in evaluation["curves"].items()
        if curve["n"]
    ]
    for check in evaluation["checks"]:
        measured = check["measured"]
        listed = all(isinstance(measured.get(key), list) and len(measured[key]) > 1 for key in ("eps", "accuracy"))
        if listed and len(measured["eps"]) == len(measured["accuracy"]) and measured.get("norm", norm) == norm:
            steps = f", {measured['steps']} steps" if "steps" in measured else ""
            attack = f"trust check {check['id']}{steps}"
            points = {key: measured[key] for key in ("eps", "accuracy")} | {"n": measured.get("n")}
            found.append({**points, "attack": attack, "exact": False, "norm": norm})
    return found


def _classes(
    evaluation: Mapping[str, Any], data: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    classes = evaluation["per_class"]
    if not classes["labels"]:
        return None
    keys = ("accuracy", "low", "high")
    sets = {"clean": classes["clean"], **classes["attacks"]}
    if len(classes["attacks"]) > 1:
        sets["worst case"] = classes["worst_case"]
    return {
        "labels": [_class_name(label, data, config) for label in classes["labels"]],
        "n": classes["n"],
        "sets": {name: {key: values[key] for key in keys} for name, values in sets.items()},
    }


def _class_name(label: int, data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    # results of before named none: then the config may
    own = config.get("data") or {}
    source = own.get("source") if isinstance(own, Mapping) else None
    for place in (data, own, source):
        names = place.get("class_names") if isinstance(place, Mapping) else None
        if isinstance(names, list) and 0 <= label < len(names):
            return str(names[label])
    return str(label)


def _pictures(run: RunFiles, kind: str) -> list[Path]:
    """Pictures a result names, and only those inside its own folder."""
    files = run.result.get("files") or {}
    found = [(run.folder / name).resolve() for key, name in files.items() if key.split("/")[-1] == kind]
    return [path for path in found if path.is_relative_to(run.folder) and path.is_file()]


def _images(rows: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """Embed the pictures, each once, as far as there is room; rows get the indices of theirs."""
    places: dict[str, int] = {}
    known: dict[Path, int | None] = {}
    images: list[str] = []
    total = left = 0
    for row in rows:
        indices = []
        for path in row["pictures"]:
            if path not in known:
                data = path.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                fits = len(images) < MAX_IMAGES and total + len(data) <= MAX_IMAGE_BYTES
                if data.startswith(_PNG) and digest not in places and fits:
                    places[digest] = len(images)
                    images.append("data:image/png;base64," + base64.b64encode(data).decode("ascii"))
                    total += len(data)
                known[path] = places.get(digest)
                left += known[path] is None
            if known[path] is not None:
                indices.append(known[path])
        row["pictures"] = indices
    return images, left


def _once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A pipeline repeats its parts' results: a part found in a folder of its own is shown from there alone."""
    own = {(row["hash"], row["sha"], row["threat"]) for row in rows if not row["nested"]}
    return [row for row in rows if not row["nested"] or (row["hash"], row["sha"], row["threat"]) not in own]


def _finish(row: dict[str, Any], run: RunFiles, roots: Sequence[Path]) -> dict[str, Any]:
    inside = next((root for root in roots if run.folder.is_relative_to(root)), None)
    if inside is None:
        row["folder"] = str(run.folder)
    else:
        relative = run.folder.relative_to(inside).as_posix()
        row["folder"] = f"{inside.name}/{relative}" if len(roots) > 1 else relative
    return row
