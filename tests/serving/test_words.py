"""Words of `kdrobust predict` and `kdrobust detect`."""

import pytest

from kdrobust.errors import UsageError
from kdrobust.serving.words import count, truth


def test_values():
    assert truth("predict", "resize", "True") is True
    assert truth("predict", "resize", "false") is False
    assert count("detect", "threads", "3") == 3


@pytest.mark.parametrize(
    ("read", "text", "expected"), [(truth, "yes", "true or false"), (count, "0", "an integer >= 1")]
)
def test_others_name_task_and_key(read, text, expected):
    with pytest.raises(UsageError, match=f"^detect key={text}: expected {expected}$"):
        read("detect", "key", text)
