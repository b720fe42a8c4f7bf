"""The hand-over to Hydra: one run or a sweep, with one clear line for every mistake."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdrobust.config.build import first_line
from kdrobust.config.check import summary
from kdrobust.config.compose import load, settle_choices
from kdrobust.config.dead import dead_additions
from kdrobust.config.hydra_node import hydra_problems, task_overrides
from kdrobust.config.interpolations import value_problems
from kdrobust.config.own_data import adopt_data
from kdrobust.config.paths import conf_dir, register_search_path
from kdrobust.config.resolvers import config_hash, register, run_folder
from kdrobust.config.schema import schema_problems
from kdrobust.errors import KdrobustError, RunFolderError, UsageError
from kdrobust.multirun import sweep
from kdrobust.refusal import without_trace
from kdrobust.streams import go_on_without
from kdrobust.tracking.folder import is_finished, read_status, resumable
from kdrobust.tracking.secrets import place_problems, redact_logs, redact_yaml

# at import, so that a launcher's worker process, which imports this module to find `run_job_task`, has them too
register()


def run_job_task(cfg: DictConfig) -> Any:
    """What Hydra calls for every job, in whatever process its launcher chose; the last that knows of Hydra."""
    from kdrobust.stages import run_stage
    from kdrobust.sweeps.job import run_recorded

    # a launcher's worker process has not been through the command line
    go_on_without()
    node = HydraConfig.get()
    sweep = Path(str(node.sweep.dir)).name if node.mode == RunMode.MULTIRUN else None
    if sweep is not None:
        adopt_data(cfg, task_overrides(node))
    if "stage" not in cfg:
        with open_dict(cfg):
            cfg.stage = str(node.job.config_name)
    settle_choices(cfg)
    _keep_secrets()
    try:
        return run_recorded(cfg, lambda: run_stage(cfg, Path(str(node.runtime.output_dir)), sweep=sweep))
    except KdrobustError:
        raise
    except Exception:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            # the sweep goes on and tells this job in one line at its end
            traceback.print_exc()
        raise


def _keep_secrets() -> None:
    """Take what is secret out of what Hydra has written for this job, and out of all that is logged from now on."""
    redact_logs()
    node = HydraConfig.get()
    folder = Path(str(node.runtime.output_dir)) / str(node.output_subdir)
    for path in (*sorted(folder.glob("*.yaml")), Path(str(node.sweep.dir)) / "multirun.yaml"):
        redact_yaml(path)


def hand_over(stage: str, arguments: Sequence[str]) -> Any:
    """Run a stage, or a sweep of it, or one of Hydra's own commands (`--cfg job`, `--info` ...).

    Args:
        stage: name of a primary config.
        arguments: overrides and Hydra's flags.

    Returns:
        What a single run returned; None otherwise.

    Raises:
        KdrobustError: one or several clear lines.
    """
    from hydra import version

    version.setbase("1.3")
    args = _parse(arguments)
    register_search_path()
    if not (args.cfg or args.info or args.hydra_help or args.shell_completion or args.experimental_rerun):
        # a run is worth more than its lines; a config that Hydra prints is nothing but lines
        go_on_without()
        return _launch(args.config_name or stage, args)
    return _hydra_command(stage, arguments, args)


def _parse(arguments: Sequence[str]) -> Any:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            args, unknown = get_args_parser().parse_known_args(list(arguments))
    except SystemExit as error:
        if not error.code:
            raise
        lines = complaint.getvalue().strip().splitlines()
        raise UsageError(lines[-1].partition("error: ")[2] or lines[-1]) from None
    if unknown:
        flags = [text for text in unknown if text.startswith("-")]
        if flags:
            raise UsageError(f"{flags[0]}: no such flag; see `kdrobust --help`")
        args.overrides = [*args.overrides, *unknown]
    if args.run and args.multirun:
        raise UsageError("--run and --multirun: choose one")
    return args


def _hydra_command(stage: str, arguments: Sequence[str], args: Any) -> None:
    import hydra

    cfg = load(args.config_name or stage, args.overrides, folder=_extra_folder(args), multirun=True)
    problems = hydra_problems(cfg)
    if problems:
        raise UsageError(summary(problems))
    before = os.environ.get("HYDRA_FULL_ERROR"), sys.argv
    # Hydra then raises instead of printing and exiting; its commands start no other process
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["kdrobust", *arguments]
    try:
        hydra.main(config_path=str(conf_dir()), config_name=stage, version_base="1.3")(run_job_task)()
    except (ValueError, OmegaConfBaseException) as error:
        raise UsageError(first_line(error)) from error
    finally:
        sys.argv = before[1]
        if before[0] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[0]


def _extra_folder(args: Any) -> Path | None:
    if args.config_dir is None:
        return None
    folder = Path(args.config_dir).absolute()
    if not folder.is_dir():
        raise UsageError(f"--config-dir={args.config_dir}: no such folder")
    return folder


@contextlib.contextmanager
def _hydra(stage: str, args: Any) -> Iterator[Hydra]:
    from hydra.core.config_search_path import SearchPathQuery

    main = Path(args.config_path).absolute() if args.config_path else conf_dir()
    if not main.is_dir():
        raise UsageError(f"--config-path={args.config_path}: no such folder")
    search_path = create_config_search_path(str(main))
    extra = _extra_folder(args)
    if extra is not None:
        anchor = SearchPathQuery(provider="main")
        search_path.prepend(provider="command-line", path=f"file://{extra}", anchor=anchor)
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name=stage, config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def _launch(stage: str, args: Any) -> Any:
    with _hydra(stage, args) as hydra:
        mode = RunMode.MULTIRUN if args.multirun else RunMode.RUN
        overrides = [*args.overrides, f"hydra.mode={mode.name}"]
        cfg = load(stage, overrides, loader=hydra.config_loader, multirun=args.multirun)
        HydraConfig.instance().set_config(cfg)
        problems = [*hydra_problems(cfg), *dead_additions(cfg, args.overrides)]
        if problems:
            raise UsageError(summary(problems))
        if cfg.get("search") is not None and not args.multirun:
            raise UsageError("search: a search is a sweep: add -m")
        with _folder_errors(cfg):
            if args.multirun:
                _settled_folder(cfg, "sweep")
                return sweep(hydra, cfg, stage, run_job_task, _flags(args))
            return _run(hydra, cfg, stage, args.overrides)


def _flags(args: Any) -> list[str]:
    """The flags that say where configs lie, as they have to be given again."""
    given = {"--config-dir": args.config_dir, "--config-path": args.config_path}
    return [f"{flag}={Path(value).absolute()}" for flag, value in given.items() if value]


@contextlib.contextmanager
def _folder_errors(cfg: DictConfig) -> Iterator[None]:
    """An output folder that cannot be made is the user's matter; every other OSError is not told as one."""
    try:
        yield
    except OSError as error:
        path = str(error.filename or "")
        places = {"run.folder": OmegaConf.select(cfg, "run.folder"), "run.root": OmegaConf.select(cfg, "run.root")}
        for key, place in places.items():
            root = Path(str(place or "outputs")).expanduser().absolute()
            if path and (place or key == "run.root") and Path(path).absolute().is_relative_to(root):
                raise RunFolderError(f"{path}: cannot be written ({error.strerror}); set {key}=FOLDER") from error
        raise


def _run(hydra: Hydra, cfg: DictConfig, stage: str, overrides: Sequence[str]) -> Any:
    # before the run folder is made: what needs no component is refused without leaving a trace
    problems = [*schema_problems(cfg), *value_problems(cfg)]
    if problems:
        raise UsageError(summary(problems))
    adopt_data(cfg, overrides)
    folder = _settled_folder(cfg, "run")
    if stage == "pipeline" and _is_repeated(cfg):
        return None
    if read_status(folder):
        # before Hydra writes its own files over those of the other run
        resumable(folder, config_hash(cfg))
    callbacks = Callbacks(cfg)
    callbacks.on_run_start(config=cfg, config_name=stage)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    with without_trace(folder):
        result = run_job(
            hydra_context=context,
            task_function=run_job_task,
            config=cfg,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
        callbacks.on_run_end(config=cfg, config_name=stage, job_return=result)
        if result.status is JobStatus.FAILED:
            raise result._return_value
    return result.return_value


def _is_repeated(cfg: DictConfig) -> bool:
    """Whether this very pipeline is finished, which is then shown: it would compute for minutes what is there."""
    if OmegaConf.select(cfg, "run.folder") is not None:
        return False
    folder = run_folder(cfg, reuse_finished=True)
    if not is_finished(folder):
        return False
    from kdrobust.stages.pipeline import show_finished

    show_finished(folder)
    return True


def _settled_folder(cfg: DictConfig, kind: str) -> Path:
    """The folder of a `run` or `sweep`, asked for once: its name may hold the time."""
    run = cfg.get("run")
    places = [f"run.{key}" for key in ("name", "folder", "root")] if isinstance(run, DictConfig) else []
    try:
        problems = place_problems({key: OmegaConf.select(cfg, key) for key in places})
        folder = Path(str(cfg.hydra[kind].dir))
        problems = problems or place_problems({f"hydra.{kind}.dir": folder})
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key or f'hydra.{kind}.dir'}: {first_line(error)}") from error
    if problems:
        raise UsageError(summary(problems))
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}: is a file, not a folder; choose another run.folder or run.root")
    return folder
