"""Configuration: where it lies, how it is composed, what is wrong with it, and how nodes become objects."""

from kdrobust.config.build import instantiate, numbers, to_plain
from kdrobust.config.check import check, ensure
from kdrobust.config.compose import compose, compose_group
from kdrobust.config.dead import dead_keys, plain_problems
from kdrobust.config.numbers import as_number
from kdrobust.config.paths import conf_dir, search_folders
from kdrobust.config.resolved import DERIVED, read_resolved, require_resolved, resolved, settings, to_text
from kdrobust.config.resolvers import config_hash, register, run_folder
from kdrobust.config.trust import trusted_packages, trusting

__all__ = [
    "DERIVED",
    "as_number",
    "check",
    "compose",
    "compose_group",
    "conf_dir",
    "config_hash",
    "dead_keys",
    "ensure",
    "instantiate",
    "numbers",
    "plain_problems",
    "read_resolved",
    "register",
    "require_resolved",
    "resolved",
    "run_folder",
    "search_folders",
    "settings",
    "to_plain",
    "to_text",
    "trusted_packages",
    "trusting",
]
