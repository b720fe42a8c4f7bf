"""Commas that are lists, not sweeps."""

import pytest

from kdrobust.shorthand import spell_out


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        (["checkpoint=a.ckpt,b.ckpt"], ["checkpoint=[a.ckpt,b.ckpt]"]),
        (["checkpoint=a.ckpt"], ["checkpoint=a.ckpt"]),
        (["checkpoint=[a,b]"], ["checkpoint=[a,b]"]),
        (["threat.eps=16/255,4/255,0.1"], ["radii=[4/255,16/255,0.1]", "threat.eps=0.1"]),
        (["threat.eps=8/255"], ["threat.eps=8/255"]),
        (["threat.eps=a,b"], ["radii=[a,b]", "threat.eps=b"]),
        (["seed=1,2"], ["seed=1,2"]),
        (["-m", "threat.eps=4/255,8/255"], ["-m", "threat.eps=4/255,8/255"]),
    ],
)
def test_evaluate(given, spelled):
    assert spell_out("evaluate", given) == spelled


def test_other_stages_are_left_alone():
    assert spell_out("distill", ["threat.eps=1,2"]) == ["threat.eps=1,2"]
