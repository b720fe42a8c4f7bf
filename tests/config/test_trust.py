"""What a command trusts is what its user named in it."""

import pytest
from omegaconf import OmegaConf

from kdrobust.config.trust import CODE, consenting, read_typed, require_consent, trusts, typed
from kdrobust.errors import UsageError


def test_what_is_trusted_is_found_wherever_it_stands():
    deep = {"derived": {"jobs": {"a": {"trusted_modules": ["deep"], "model": {"trust": True}}}}}
    cfg = OmegaConf.create({"trusted_modules": ["acme", "acme"], "list": [{"trusted_modules": "one"}], **deep})
    assert trusts(cfg) == ["acme", "one", "deep", CODE]
    assert trusts({"trusted_modules": None, "model": {"trust": False}}) == []


def test_a_typed_config_is_the_user_s_own():
    require_consent({"trusted_modules": ["acme"]})


def test_of_a_folder_s_config_only_what_was_named_is_trusted():
    cfg = {"trusted_modules": ["acme", "other"], "model": {"trust": True}}
    with consenting(["acme", "other", CODE]):
        require_consent(cfg)
    with (
        consenting(["acme"]),
        pytest.raises(UsageError, match=r"imports other; .*add trusted_modules=\[other\] model\.trust=true$"),
    ):
        require_consent(cfg)
    with (
        consenting(["acme", "other"], "--trust"),
        pytest.raises(UsageError, match=r"files that are code.*--trust model\.trust"),
    ):
        require_consent(cfg)
    require_consent(cfg)


def test_trust_is_read_as_it_is_typed():
    names = ["acme", "other", CODE]
    text = typed(names)
    assert text == "trusted_modules=[acme,other] model.trust=true"
    assert read_typed([*text.split(), "resume=x", "model.trust=false"]) == (names, ["resume=x", "model.trust=false"])
    assert typed([]) == ""
