"""`kdrobust reproduce FOLDER/result.json`: run what a result says it was made by again, and set both side by side."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrobust.errors import CheckpointError, KdrobustError, UsageError

USAGE = "kdrobust reproduce FOLDER/result.json [--out FOLDER] [--anyway] [--trust PACKAGE ...]"
_HELP = f"""{USAGE}

  Runs the recorded configuration again in a new folder and compares every figure, the weights, stored outputs and
  the verdict on every sample, bit by bit.
  Ends with 0 if all are equal, with 1 if any differs.

  --out FOLDER      where to run it (default: beside the recorded run, named ...-again)
  --anyway          go on although versions, machine or code are not those of the record
  --trust PACKAGE   a package its configuration may point into; what a record itself names is not trusted

  Equal bits are promised for the same versions on the same kind of machine: other CPUs round otherwise in
  vectorised kernels, and GPUs in atomic additions (trainer.deterministic=true forbids those)."""
STAGES = ("teacher", "distill", "outputs", "evaluate")
#: Files whose bytes are what a stage found, sample by sample.
ARRAYS = {"outputs": "outputs.safetensors", "evaluate": "samples*.npz"}
#: What tells when, where and how fast, not what was found.
IGNORED = frozenset(
    {"seconds", "path", "folder", "versions", "name", "latency", "peak_memory", "started", "ended", "files"}
)


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        arguments: what stands after `kdrobust reproduce`.

    Returns:
        0 if everything is equal, 1 if anything differs.

    Raises:
        UsageError: another argument, or no result.
        KdrobustError: the record is of other versions, files or data, or its run fails.
    """
    if not arguments or any(text in ("-h", "--help") for text in arguments):
        print(_HELP)
        return 0
    file, out, anyway, trusted = _parse(arguments)
    record, manifest, cfg = read_record(file)
    differences = [*environment_differences(manifest)]
    if differences and not anyway:
        listed = "; ".join(differences)
        raise KdrobustError(f"{file}: was made otherwise: {listed}; --anyway runs it all the same")
    for line in differences:
        print(f"differs: {line}")
    check_inputs(record, file)
    folder = out or _free(file.parent)
    if folder.exists():
        raise UsageError(f"--out {folder}: exists already; name a new folder")
    again = _run(cfg, folder, trusted)
    rows = [
        *compare(_placed(record, str(cfg.run.folder)), _placed(again, str(folder))),
        *weights(record, again),
        *arrays(str(record["stage"]), file.parent, folder),
    ]
    print(table(rows))
    different = [row for row in rows if row[1] != row[2]]
    print(f"{len(rows) - len(different)} of {len(rows)} values equal; {folder}")
    return 1 if different else 0


def _parse(arguments: Sequence[str]) -> tuple[Path, Path | None, bool, list[str]]:
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    files: list[Path] = []
    out, anyway, trusted = None, False, []
    left = iter(words)
    for word in left:
        if word == "--anyway":
            anyway = True
        elif word in ("--out", "--trust"):
            value = next(left, None)
            if value is None:
                raise UsageError(f"reproduce {word}: a value is missing")
            if word == "--out":
                out = Path(value)
            else:
                trusted.append(value)
        elif word.startswith("-"):
            raise UsageError(f"reproduce {word}: no such argument; there are --out, --anyway and --trust")
        else:
            files.append(Path(word))
    if len(files) != 1:
        raise UsageError(f"reproduce: expected {USAGE}")
    return files[0] / "result.json" if files[0].is_dir() else files[0], out, anyway, trusted


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"{path}: no such file; a finished run leaves result.json, manifest.json and its config"
        ) from None
    except ValueError:
        raise CheckpointError(f"{path}: damaged: not a JSON file") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: damaged: no mapping")
    return data


def read_record(file: Path) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """A finished run's result, manifest and resolved config.

    Raises:
        UsageError: one of them is missing, or its stage cannot be run again alone.
        CheckpointError: one of them is damaged, or the config is not the one the result was made by.
    """
    from omegaconf import DictConfig

    from kdrobust.config import config_hash, read_resolved
    from kdrobust.config.resolved import FILE
    from kdrobust.tracking.secrets import MASK

    record, manifest = _read(file), _read(file.parent / "manifest.json")
    if record.get("stage") not in STAGES:
        raise UsageError(f"{file}: stage {record.get('stage')}: only {', '.join(STAGES)} are reproduced")
    place = file.parent / FILE
    if not place.exists():
        raise UsageError(f"{place}: no such file; without it nothing says what was run")
    cfg = read_resolved(file.parent)
    if not isinstance(cfg.get("run"), DictConfig) or config_hash(cfg) != record.get("config_hash"):
        hidden = MASK in place.read_text(encoding="utf-8")
        why = "held a secret, which is not kept" if hidden else "has changed since"
        raise CheckpointError(f"{place}: {why}; it is not what {file.name} was made by")
    return record, manifest, cfg


def environment_differences(manifest: Mapping[str, Any]) -> list[str]:
    """What of versions, code and machine is not as it was, each in a few words."""
    from kdrobust.tracking.manifest import git_state, machine, versions

    lines = []
    now: dict[str, Any] = {"versions": versions(), "git": git_state(), "platform": machine()}
    for part, keys in (("versions", None), ("git", ("commit",)), ("platform", ("machine", "processor"))):
        then = manifest.get(part) or {}
        lines += [
            f"{key} {then.get(key, 'none')} (here {now[part].get(key, 'none')})"
            for key in keys or sorted({*then, *now[part]})
            if then.get(key) != now[part].get(key)
        ]
    if (manifest.get("git") or {}).get("dirty") or now["git"].get("dirty"):
        lines.append("uncommitted changes in the code")
    return lines


def _hashed(node: Any) -> Iterator[tuple[Path, str]]:
    """Files a result names with their SHA-256."""
    if isinstance(node, Mapping):
        name = node.get("checkpoint") or node.get("path")
        if isinstance(name, str) and isinstance(node.get("sha256"), str):
            yield Path(name), node["sha256"]
        for child in node.values():
            yield from _hashed(child)


def check_inputs(record: Mapping[str, Any], file: Path) -> None:
    """Refuse a record whose teacher, or model under evaluation, is not there or another one now.

    Args:
        record: a run's.
        file: where it lies.

    Raises:
        CheckpointError: names the file.
        UsageError: the file's path is relative, and holds in another folder than this one.
    """
    from kdrobust.models import file_hash

    inputs = [record.get("teacher"), record.get("subject")]
    if record.get("stage") in ("evaluate", "outputs"):
        inputs.append({"own": record.get("checkpoint")})
    for node in inputs:
        for path, digest in _hashed(node):
            if not path.is_file():
                # stored outputs are folders, and check themselves
                if not path.exists():
                    raise _absent(path, file)
            elif file_hash(path) != digest:
                raise CheckpointError(f"{path}: is not the file of the record any more (its SHA-256 differs)")


def _absent(path: Path, file: Path) -> KdrobustError:
    """The run was started in a folder above its own, in most cases: a relative path says nothing anywhere else."""
    if not path.is_absolute():
        started = next((place for place in file.absolute().parents if (place / path).exists()), None)
        if started is not None:
            return UsageError(f"{path}: relative to {started}, where the run was started: go there first: cd {started}")
    return CheckpointError(f"{path}: the run learnt from it, and it is not there (from {Path.cwd()}); put it back")


def _free(folder: Path) -> Path:
    base, count = folder.with_name(f"{folder.name}-again"), 1
    place = base
    while place.exists():
        count += 1
        place = base.with_name(f"{base.name}-{count}")
    return place


def _run(cfg: Any, folder: Path, trusted: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from kdrobust.config.trust import consenting
    from kdrobust.stages import run_config

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    moved = OmegaConf.create(_moved(OmegaConf.to_container(cfg), str(cfg.run.folder), str(folder)))
    moved.run.folder = str(folder)
    with consenting(trusted, "--trust"):
        run_config(moved, asked=True)
    return _read(folder / "result.json")


def _moved(node: Any, before: str, after: str) -> Any:
    if isinstance(node, dict):
        return {key: _moved(child, before, after) for key, child in node.items()}
    if isinstance(node, list):
        return [_moved(child, before, after) for child in node]
    within = isinstance(node, str) and (node == before or node.startswith(before + "/"))
    return after + node[len(before) :] if within else node


def _placed(node: Any, folder: str) -> Any:
    """A result with the run's own folder named alike in every path: where a run lies is not what it found."""
    return _moved(node, folder, "<run folder>")


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every compared value of a result by its dotted key; of a file only the hash, as it lies elsewhere now."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            if name not in IGNORED and "seconds" not in str(name) and not _is_own_file(name, node):
                yield from leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for place, child in enumerate(node):
            yield from leaves(child, f"{key}[{place}]")
    else:
        yield key, node


def _is_own_file(name: Any, node: Mapping[str, Any]) -> bool:
    # a checkpoint also holds the paths of its run; its weights are compared instead
    return name == "sha256" and str(node.get("path", "")).endswith(".ckpt")


def weights(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The weights of two training runs as one row of hashes; none for stages that train nothing."""
    if before.get("stage") not in ("teacher", "distill"):
        return []
    then, now = (Path(str(result["checkpoint"]["path"])) for result in (before, after))
    return [("weights", weights_hash(then), weights_hash(now))]


def arrays(stage: str, before: Path, after: Path) -> list[tuple[str, Any, Any]]:
    """What two runs found sample by sample, a row a file: its SHA-256 in either folder, None where it is not there."""
    from kdrobust.models import file_hash

    pattern = ARRAYS.get(stage)
    found = [
        {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob(pattern))} if pattern else {}
        for folder in (before, after)
    ]
    then, now = found
    return [(name, then.get(name), now.get(name)) for name in sorted({*then, *now})]


def weights_hash(path: Path) -> str:
    """SHA-256 over names, types, shapes and bits of a checkpoint's tensors."""
    from kdrobust.models import read_checkpoint

    digest = hashlib.sha256()
    for name, tensor in sorted(read_checkpoint(path)["state_dict"].items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, then, now) of every value of two results; a value that one of them lacks is None there."""
    then, now = dict(leaves(before)), dict(leaves(after))
    return [(key, then.get(key), now.get(key)) for key in dict.fromkeys([*then, *now])]


_SHOWN = ("validation.", "outputs.", "accuracy", "weights", "samples")


def table(rows: Sequence[tuple[str, Any, Any]]) -> str:
    """The values that differ, or the few that matter where all are equal."""
    different = [row for row in rows if row[1] != row[2]]
    picked = different or [row for row in rows if row[0].startswith(_SHOWN)]
    picked = picked or list(rows[:12])
    width = max((len(key) for key, _, _ in picked), default=0)
    return "\n".join(
        f"{'=' if then == now else '≠'} {key:<{width}}  {then}" + ("" if then == now else f"  now {now}")
        for key, then, now in picked
    )
