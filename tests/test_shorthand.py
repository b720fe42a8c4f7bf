"""Commas that are lists, not sweeps."""

import pytest

from kdrobust.config import compose
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


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_a_search_s_space_stands_in_the_place_of_the_option_s(sign):
    space = "{method.alpha:{type:float,low:0,high:1}}"
    spelled = spell_out("distill", ["-m", "search=temperature_tpe", f"{sign}search.space={space}", "n_trials=3"])
    search = compose("distill", [text for text in spelled if text != "-m"]).search
    assert dict(search.space) == {"method.alpha": {"type": "float", "low": 0, "high": 1}}
    assert search.n_trials == 3
    one = ["search=temperature_tpe", "+search.space.method.alpha={type:float,low:0,high:1}"]
    assert spell_out("distill", one) == one
