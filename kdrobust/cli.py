"""`kdrobust STAGE [overrides]` and its few commands. Decides who answers; imports nothing heavy to do so."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType

from kdrobust.errors import KdrobustError, UsageError
from kdrobust.limits import limit_line, require_address_space
from kdrobust.streams import go_on_without, standard_streams

_HELP = ("-h", "--help", "help")
#: Commands that load PyTorch, beside the stages.
_WITH_TORCH = ("benchmark", "detect", "predict", "reproduce", "sweep")
#: Commands that leave files: worth more than what they print, where that can no longer be printed.
_LONG = ("benchmark", "report", "reproduce", "search", "sweep")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the arguments; None: those of this process.

    Returns:
        The exit code: 0, 1 for data and bugs, 2 for a mistake in the command or a config, 130 after Ctrl-C, 141 where
        the reader of a command that only prints has left (`| head -1`), 143 after SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    before = _on_sigterm(_terminate)
    try:
        with standard_streams():
            return _answer(arguments)
    except SystemExit as error:
        if type(error).__name__ == "SIGTERMException":
            return 143
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        _on_sigterm(before)


def _answer(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except KdrobustError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        else:
            from kdrobust.tracking.secrets import redact_line

            print(redact_line(str(error)), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        line = limit_line(error)
        if line and os.environ.get("HYDRA_FULL_ERROR") != "1":
            print(line, file=sys.stderr)
        else:
            traceback.print_exc()
        return 1


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def _on_sigterm(handler: signal._HANDLER) -> signal._HANDLER:
    if threading.current_thread() is not threading.main_thread() or handler is None:
        return None
    return signal.signal(signal.SIGTERM, handler)


def _dispatch(arguments: list[str]) -> int:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the working folder has been deleted; change to another one: cd ~") from None
    from kdrobust import listing

    if not arguments or arguments[0] in _HELP:
        from kdrobust.help import overview

        print(overview())
        return 0
    command, rest = arguments[0], arguments[1:]
    if command in _LONG:
        go_on_without()
    if command in _WITH_TORCH:
        require_address_space()
    if command in ("--version", "-V"):
        from kdrobust import __version__

        print(f"kdrobust {__version__}")
        return 0
    if command == "list":
        print(listing.render(rest))
        return 0
    if command == "detect":
        from kdrobust.detection.command import main as detect

        return detect(rest)
    if command == "doctor":
        from kdrobust.doctor import main as doctor

        return doctor(rest)
    if command == "benchmark":
        from kdrobust.benchmark import main as benchmark

        return benchmark(rest)
    if command == "frontier":
        from kdrobust.frontier import main as frontier

        return frontier(rest)
    if command == "predict":
        from kdrobust.serving.command import main as predict

        return predict(rest)
    if command == "report":
        from kdrobust.htmlreport import main as report

        return report(rest)
    if command == "reproduce":
        from kdrobust.reproduce import main as reproduce

        return reproduce(rest)
    if command == "search":
        from kdrobust.sweeps.wandb_sweep import main as search

        return search(rest)
    if command == "sweep":
        from kdrobust.sweeps.command import main as sweep

        return sweep(rest, _start)
    return _stage(command, rest)


def _stage(name: str, arguments: list[str]) -> int:
    from kdrobust import listing
    from kdrobust.config.suggest import available, did_you_mean

    stages = [stage.name for stage in listing.stages(listing.config_dir_argument(arguments))]
    if name not in stages:
        if name.startswith("-") or "=" in name:
            raise UsageError(f"{name}: a stage comes first: kdrobust STAGE {name}; stages: {available(stages)}")
        commands = (
            "list",
            "benchmark",
            "detect",
            "doctor",
            "frontier",
            "predict",
            "report",
            "reproduce",
            "search",
            "sweep",
        )
        close = did_you_mean(name, [*stages, *commands])
        raise UsageError(f"{name}: no such stage{close}; stages: {available(stages)} (also: {', '.join(commands)})")
    if any(argument in _HELP[:2] for argument in arguments):
        from kdrobust.help import stage_help

        print(stage_help(name))
        return 0
    require_address_space()
    if any(argument.startswith("resume=") for argument in arguments):
        from kdrobust.resuming import resume

        resume(name, arguments)
        return 0
    from kdrobust.shorthand import spell_out

    _start(name, spell_out(name, arguments))
    return 0


def _start(stage: str, arguments: Sequence[str]) -> None:
    from kdrobust.launch import hand_over

    hand_over(stage, arguments)
