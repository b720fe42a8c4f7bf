"""YAML whose aliases refer to themselves, or multiply into more than any machine holds: refused before it is read."""

from __future__ import annotations

from pathlib import Path

import yaml

from kdrobust.errors import UsageError

#: Values a file may hold once its aliases are written out.
_MOST = 100_000


def check_aliases(path: Path) -> None:
    """Refuse a file whose aliases go in a circle or multiply without end; other faults are the reader's to find.

    Raises:
        UsageError: names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if "&" not in text or "*" not in text:
            return
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node | None) -> int:
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        else:
            return 1
        if id(node) not in sizes:
            # what is met again before it is counted holds itself
            sizes[id(node)] = None
            sizes[id(node)] = 1 + sum(map(size, children))
        known = sizes[id(node)]
        if known is None:
            raise UsageError(f"{path}: line {node.start_mark.line + 1}: an alias (*NAME) refers to what it stands in")
        return known

    if size(root) > _MOST:
        raise UsageError(f"{path}: its aliases (*NAME) write out to more than {_MOST:,} values; write fewer")
