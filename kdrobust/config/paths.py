"""Where configs are looked for: the user's `./conf`, then kdrobust's own, then installed packs. No heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kdrobust.errors import UsageError

PACK_GROUP = "kdrobust.conf"


@dataclass(frozen=True, kw_only=True)
class ConfigFolder:
    """One folder of the search path.

    Attributes:
        path: absolute.
        provider: `you` (`./conf`, or `--config-dir`), `kdrobust`, or a pack's name.
    """

    path: Path
    provider: str


def conf_dir() -> Path:
    """The configs of kdrobust itself: inside the package in a wheel, beside it in the repository."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def user_conf_dir() -> Path | None:
    """`./conf` of the working directory, unless there is none or it is kdrobust's own."""
    folder = Path.cwd() / "conf"
    if not folder.is_dir() or (conf_dir().is_dir() and folder.samefile(conf_dir())):
        return None
    return folder


def _pack_folder(name: str, loaded: Any) -> Path:
    if isinstance(loaded, str | Path):
        return Path(loaded).absolute()
    places = list(getattr(loaded, "__path__", []))
    if not places:
        raise UsageError(f"{PACK_GROUP}:{name}: this entry point must name a folder or a package, got {loaded!r}")
    return Path(places[0]).absolute()


def pack_folders() -> list[ConfigFolder]:
    """Folders that installed packages offer under the entry-point group `kdrobust.conf`.

    An entry point loads to a path, or to a package whose folder holds the groups.

    Raises:
        UsageError: a pack cannot be loaded; names it.
    """
    folders = []
    for point in sorted(metadata.entry_points(group=PACK_GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:
            raise UsageError(
                f"{PACK_GROUP}:{point.name}: this installed pack cannot be loaded ({type(error).__name__}: {error}); "
                "uninstall or mend it"
            ) from error
        folders.append(ConfigFolder(path=_pack_folder(point.name, loaded), provider=point.name))
    return folders


def search_folders(extra: Path | None = None) -> list[ConfigFolder]:
    """The search path, first found first taken.

    Args:
        extra: a further folder of the user's (`--config-dir`), looked into before `./conf`.
    """
    own = ConfigFolder(path=conf_dir(), provider="kdrobust")
    mine = [ConfigFolder(path=path.absolute(), provider="you") for path in (extra, user_conf_dir()) if path is not None]
    return [*mine, own, *pack_folders()]


def register_search_path() -> None:
    """Let every Hydra composition of this process that starts from `conf_dir()` see the user's folder and the packs.

    A plugin of this process only: a `hydra_plugins` package would act on every Hydra program of the environment.
    """
    from hydra.core.plugins import Plugins

    from kdrobust.config.searchpath import UserConf

    Plugins.instance().register(UserConf)
