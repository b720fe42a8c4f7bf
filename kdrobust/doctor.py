"""`kdrobust doctor`: what runs here, what data is found, what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kdrobust import listing
from kdrobust.errors import UsageError
from kdrobust.tracking.manifest import PACKAGES

REQUIRED = (
    *(name for name in PACKAGES if name != "kdrobust"),
    "safetensors",
    "matplotlib",
    "plotly",
    "rich",
    "jsonschema",
    "optuna",
    "hydra-joblib-launcher",
    "joblib",
)
#: Package to what it is for and the command that brings it.
EXTRAS = {
    "timm": ("any timm architecture", "pip install 'kdrobust[timm]'"),
    "tensorboard": ("logger=tensorboard", "pip install 'kdrobust[tensorboard]'"),
    "trackio": ("logger=trackio", "pip install 'kdrobust[trackio]'"),
    "hydra-submitit-launcher": ("hydra/launcher=submitit_local, submitit_slurm", "pip install 'kdrobust[submitit]'"),
    "foolbox": ("Foolbox's attacks in a suite", "pip install 'kdrobust[foolbox]'"),
    "adversarial-robustness-toolbox": ("ART's attacks in a suite", "pip install 'kdrobust[art]'"),
    "pyarrow": ("sweep.parquet beside sweep.csv", "pip install pyarrow"),
    "onnxruntime": ("kdrobust export, and predict with .onnx", "pip install 'kdrobust[export]'"),
    "wandb": ("logger=wandb (offline without an account)", "pip install wandb"),
}
#: Data option to the file or folder below its root that shows the data is there.
_TRACES = {
    "fashion_mnist": "FashionMNIST/raw",
    "mnist": "MNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "train_32x32.mat",
    "fsdd": "fsdd/recordings",
    "speech_commands": "speech_commands_v0.02/testing_list.txt",
}
_HELP = """kdrobust doctor [--json]

  Versions, devices, data found, what is missing and the command that brings it. Exit code 1 if something is broken.

  --json    the same as JSON"""
#: No line is longer.
_WIDEST = 4096
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        area: versions, devices, data, extras, or outputs.
        name: what was looked for.
        status: `ok`, `missing` (can be had), or `broken` (nothing runs without it).
        detail: a version, a place, or how to get it.
    """

    area: str
    name: str
    status: str
    detail: str


def versions() -> list[Finding]:
    """Python and the packages kdrobust needs."""
    found = [Finding(area="versions", name="python", status="ok", detail=platform.python_version())]
    for name in REQUIRED:
        try:
            finding = Finding(area="versions", name=name, status="ok", detail=metadata.version(name))
        except metadata.PackageNotFoundError:
            finding = Finding(area="versions", name=name, status="broken", detail=f"pip install {name}")
        found.append(finding)
    return found


def devices() -> list[Finding]:
    """Processors and what torch can use of them."""
    try:
        import torch
    except ImportError as error:
        return [Finding(area="devices", name="torch", status="broken", detail=f"cannot be imported: {error}")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [
        Finding(
            area="devices",
            name="cpu",
            status="ok",
            detail=f"{cores} cores, torch uses {torch.get_num_threads()} threads",
        )
    ]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            detail = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}"
            found.append(Finding(area="devices", name=f"cuda:{index}", status="ok", detail=detail))
    else:
        found.append(
            Finding(area="devices", name="cuda", status="missing", detail="none; trainer=cpu and ddp_cpu work")
        )
    if torch.backends.mps.is_available():
        found.append(Finding(area="devices", name="mps", status="ok", detail="available"))
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _root(option: listing.Option) -> Path:
    own = _read_yaml(option.path)
    base = _read_yaml(option.path.parent / "_base.yaml")
    from omegaconf import OmegaConf

    # the option's own text may read the environment: ${oc.env:KDROBUST_DATA,datasets}
    node = OmegaConf.create({"root": own.get("root") or base.get("root") or "datasets"})
    return Path(str(node.root)).expanduser()


def _data_finding(option: listing.Option) -> Finding:
    def finding(status: str, detail: str) -> Finding:
        return Finding(area="data", name=option.name, status=status, detail=detail)

    if option.name == "digits":
        if importlib.util.find_spec("sklearn") is not None:
            return finding("ok", "ships with scikit-learn")
        return finding("broken", "pip install scikit-learn")
    if option.name == "fashion_mnist" and _DEBIAN_FASHION.is_dir():
        return finding("ok", str(_DEBIAN_FASHION))
    if option.name == "espeak_digits":
        program = shutil.which("espeak-ng")
        return finding("ok", program) if program else finding("missing", "apt install espeak-ng")
    trace = _TRACES.get(option.name)
    if trace is None:
        return finding("missing", f"your own files: see kdrobust teacher data={option.name} --cfg job -p data")
    root = _root(option)
    if (root / trace).exists():
        return finding("ok", str(root / trace))
    if option.name == "speech_commands":
        return finding("missing", f"not in {root}; unpack speech_commands_v0.02.tar.gz there (see conf/data)")
    apt = " or apt install dataset-fashion-mnist" if option.name == "fashion_mnist" else ""
    return finding("missing", f"not in {root}; downloaded at first use{apt}")


def data() -> list[Finding]:
    """Each data option: where it was found, or how to get it. Nothing is downloaded."""
    return [_data_finding(option) for option in listing.options("data")]


def extras() -> list[Finding]:
    """Optional packages."""
    found = []
    for name, (purpose, command) in EXTRAS.items():
        try:
            found.append(Finding(area="extras", name=name, status="ok", detail=f"{metadata.version(name)}: {purpose}"))
        except metadata.PackageNotFoundError:
            found.append(Finding(area="extras", name=name, status="missing", detail=f"{command}  ({purpose})"))
    return found


def outputs() -> list[Finding]:
    """Whether runs can be written where they land by default."""
    folder = Path.cwd() / "outputs"
    place = folder if folder.exists() else folder.parent
    if place.is_dir() and os.access(place, os.W_OK):
        return [Finding(area="outputs", name="outputs", status="ok", detail=f"{folder} can be written")]
    detail = f"{folder} cannot be written; set run.root=FOLDER"
    return [Finding(area="outputs", name="outputs", status="broken", detail=detail)]


def examine() -> list[Finding]:
    """Everything, in the order of the report."""
    return [*versions(), *devices(), *data(), *extras(), *outputs()]


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="kdrobust doctor", title_justify="left", box=None, pad_edge=False)
    for column in ("area", "name", "status", "detail"):
        table.add_column(column, overflow="fold", no_wrap=column != "detail")
    colours = {"ok": "green", "missing": "yellow", "broken": "bold red"}
    area = ""
    for finding in findings:
        colour = colours[finding.status]
        shown = finding.area if finding.area != area else ""
        area = finding.area
        table.add_row(shown, finding.name, f"[{colour}]{finding.status}[/]", finding.detail.replace("[", "\\["))
    console = Console()
    if not console.is_terminal:
        # into a pipe or a file: a command that shall be pasted stays in one line
        narrow, console.width = console.width, _WIDEST
        console.width = max(narrow, console.measure(table).maximum)
    console.print(table)


def main(arguments: Sequence[str] = ()) -> int:
    """Print the report.

    Args:
        arguments: nothing, `--json`, or `--help`.

    Returns:
        0, or 1 if something required is broken.

    Raises:
        UsageError: another argument.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    unknown = [argument for argument in arguments if argument != "--json"]
    if unknown:
        raise UsageError(f"doctor {unknown[0]}: no such argument; there is --json")
    findings = examine()
    if arguments:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_table(findings)
    return int(any(finding.status == "broken" for finding in findings))
