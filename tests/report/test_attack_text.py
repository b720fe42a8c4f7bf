"""Every attack's description can be written under a table."""

import pytest

from kdrobust.report.rows import attack_text
from tests.attacks.zoo import EVERY, attacks_of


@pytest.mark.parametrize(("norm", "name"), EVERY)
def test_every_attack_has_a_text(norm, name):
    text = attack_text("mine", attacks_of(norm)[name].describe())
    assert text.startswith("mine: ")
    assert len(text) < 120


def test_what_the_texts_say():
    attacks = {name: attack.describe() for name, attack in attacks_of("l2").items()}
    assert attack_text("a", attacks["cascade"]) == "a: apgd, fmn, square, each on what the ones before left standing"
    assert attack_text("a", attacks["square"]) == "a: Square, 8 queries"
    assert attack_text("a", attacks["apgd_t"]) == "a: 4 steps of APGD on dlr-targeted, uniform start"
    assert attack_text("a", attacks["cw"]) == "a: 8 steps of CarliniWagner towards the nearest adversarial example"
