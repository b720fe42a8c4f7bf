"""The Hydra plugin behind `register_search_path`."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin

from kdrobust.config.paths import conf_dir, pack_folders, user_conf_dir


class UserConf(SearchPathPlugin):
    """Puts `./conf` before kdrobust's own configs, and installed packs after them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Extend the path of kdrobust's own compositions; leave any other Hydra program's alone."""
        main = next((element.path for element in search_path.get_path() if element.provider == "main"), None)
        if main is None or Path(main) != conf_dir():
            return
        user = user_conf_dir()
        anchor = SearchPathQuery(provider="main")
        if user is not None:
            search_path.prepend(provider="you", path=f"file://{user}", anchor=anchor)
        for folder in reversed(pack_folders()):
            search_path.append(provider=folder.provider, path=f"file://{folder.path}", anchor=anchor)
