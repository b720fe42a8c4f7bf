"""Run folders like the stages leave, small and without training."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

THREAT = {"norm": "linf", "eps": 8 / 255, "bounds": [0.0, 1.0]}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def png(shade: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 2, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + bytes([shade] * 4) for _ in range(2))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(content) if name.endswith(".yaml") else json.dumps(content)
    path.write_text(content if isinstance(content, str) else text, encoding="utf-8")


def result(stage: str, name: str, *, seed: int = 0, **more: Any) -> dict[str, Any]:
    head = {"schema": 1, "stage": stage, "name": name, "seed": seed, "versions": {"python": "3.11"}}
    head |= {"config_hash": sha(f"{stage}{name}{seed}{more.get('checkpoint')}"), "threat": THREAT}
    return head | {"data": {"name": "digits", "fingerprint": "f"}} | more


def training(
    folder: Path,
    *,
    clean: float = 0.9,
    robust: float = 0.5,
    seed: int = 0,
    overrides: Sequence[str] = (),
    stage: str = "distill",
    name: str = "rslad_small_cnn_digits",
    checkpoint: str | None = None,
    teacher: str | None = None,
    warnings: Sequence[str] = (),
    method: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A run of `teacher` or `distill`; `checkpoint` and `teacher` are paths, whose text gives the hash."""
    path = checkpoint or str(folder / "best.ckpt")
    validation = {"samples": 100, "epoch": 1, "accuracy": clean, "robust_accuracy": robust}
    more: dict[str, Any] = {"validation": validation, "validation_attack": {"attack": "GradientAttack", "steps": 10}}
    more |= {"checkpoint": {"path": path, "sha256": sha(path)}, "warnings": list(warnings), "seconds": 1.5}
    more |= {"files": {"metrics": "metrics.csv", "examples": "examples.png"}}
    if teacher:
        more["teacher"] = {"checkpoint": teacher, "sha256": sha(teacher)}
    write(folder, "result.json", result(stage, name, seed=seed, **more))
    write(folder, "status.json", {"status": "completed"})
    command = f"kdrobust {stage} -m method.alpha=0.1,0.5 seed=0,1"
    write(folder, "manifest.json", {"stage": stage, "command": command, "git": {"commit": "a" * 40, "dirty": True}})
    settings = {"method": method or {"alpha": 0.1, "temperature": 1}, "seed": seed, "run": {"folder": str(folder)}}
    write(folder, "config_resolved.yaml", settings | {"logger": {"api_key": "0123456789"}} | config)
    choices = {"method": "rslad", "model@student": "small_cnn", "data": "digits"}
    write(folder, ".hydra/hydra.yaml", {"hydra": {"mode": "MULTIRUN", "runtime": {"choices": choices}}})
    write(folder, ".hydra/overrides.yaml", list(overrides))
    rows = ["epoch,train/loss,train/robust_accuracy,val/accuracy,val/robust_accuracy,train/terms/knowledge"]
    rows += [f"{epoch},{2.0 - epoch / 2},{0.2 * epoch + 0.1},0.{epoch + 6},0.{3 + epoch % 3},1" for epoch in range(4)]
    rows.append("4,nan,,inf,0.4,1")
    write(folder, "metrics.csv", "\n".join(rows))
    (folder / "examples.png").write_bytes(png(int(robust * 100) % 256))
    return folder


def figure(correct: int, n: int = 100) -> dict[str, Any]:
    share = correct / n
    return {"correct": correct, "n": n, "accuracy": share, "interval": [max(0.0, share - 0.1), min(1.0, share + 0.1)]}


def evaluation(
    *, clean: int = 90, robust: int = 40, reasons: Sequence[str] = (), checks: bool = True
) -> dict[str, Any]:
    measured = {
        "norm": "linf",
        "eps": [0.0, 0.03, 0.5],
        "accuracy": [0.9, 0.4, 0.0],
        "correct": [9, 4, 0],
        "n": 10,
        "steps": 10,
    }
    curve = {"eps": [0.0, 0.02, 0.1], "accuracy": [0.9, 0.5, 0.1], "low": [0.8, 0.4, 0.0], "high": [1.0, 0.6, 0.2]}
    curve |= {"n": 100, "clean": 0.9, "auc": 0.4, "eps50": 0.02, "limit": 0.1, "exact": True}  # type: ignore[dict-item]
    classes = {"correct": [45, 45], "accuracy": [0.9, 0.8], "low": [0.8, 0.7], "high": [1.0, 0.9], "worst": None}
    check = {"id": "S4", "name": "curve", "definition": "d", "verdict": "warn", "detail": "slow", "measured": measured}
    return {
        "version": 1,
        "threat": THREAT,
        "n": 100,
        "confidence": 0.95,
        "seed": 0,
        "batch_size": 10,
        "device": "cpu",
        "indices_sha256": sha("indices"),
        "clean": figure(clean),
        "attacks": {
            "pgd20": figure(robust) | {"spec": {}, "seconds": 0.1},
            "fgsm": figure(60) | {"spec": {}, "seconds": 0},
        },
        "worst_case": figure(robust) | {"over": ["pgd20", "fgsm"]},
        "w_robust": 0.6,
        "per_class": {
            "labels": [0, 1],
            "n": [50, 50],
            "clean": classes,
            "attacks": {"pgd20": classes, "fgsm": classes},
            "worst_case": classes,
        },
        "calibration": {"bins": 15, "clean": None, "attacks": {}, "worst_case": None},
        "curves": {"fmn": curve},
        "checks": [check] if checks else [],
        "unreliable": bool(reasons),
        "reasons": list(reasons),
        "versions": {},
    }


def evaluated(
    folder: Path, *, checkpoint: str, name: str = "digits", config: dict[str, Any] | None = None, **more: Any
) -> Path:
    origin = {"path": checkpoint, "sha256": sha(checkpoint)}
    found = result(
        "evaluate", name, checkpoint=origin, evaluation=evaluation(**more), files={"examples": "examples.png"}
    )
    write(folder, "result.json", found)
    write(folder, "status.json", {"status": "completed"})
    write(folder, "manifest.json", {"command": f"kdrobust evaluate checkpoint={checkpoint}"})
    write(folder, "config_resolved.yaml", config or {"seed": 0})
    (folder / "examples.png").write_bytes(png(200))
    return folder


def sweep(root: Path) -> Path:
    """Two alphas, two temperatures, two seeds, their teacher elsewhere, and one evaluation that is not to be trusted."""
    folder = root / "outputs" / "sweeps" / "first"
    teacher = root / "outputs" / "teacher" / "pgd_at"
    training(
        teacher,
        stage="teacher",
        name="pgd_at_wide_cnn_digits",
        clean=0.97,
        robust=0.7,
        checkpoint="outputs/teacher/pgd_at/best.ckpt",
    )
    number = 0
    for alpha in (0.1, 0.5):
        for temperature in (1, 4):
            for seed in (0, 1):
                training(
                    folder / str(number),
                    clean=0.8 + alpha / 5 + seed / 100,
                    robust=0.6 - alpha / 5 - temperature / 100,
                    seed=seed,
                    overrides=[f"method.alpha={alpha}", f"method.temperature={temperature}", f"seed={seed}"],
                    teacher="outputs/teacher/pgd_at/best.ckpt",
                    method={"alpha": alpha, "temperature": temperature},
                    warnings=["robust overfitting: validation robust accuracy fell from 50.0% (epoch 2) to 30.0%"]
                    if number == 3
                    else (),
                )
                number += 1
    evaluated(
        folder / "evaluation",
        checkpoint=str(folder / "0" / "best.ckpt"),
        reasons=["S3: an unbounded attack leaves 40 % standing"],
    )
    return folder
