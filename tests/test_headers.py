"""Headers of YAML files, taken apart."""

import pytest

from kdrobust.config import conf_dir
from kdrobust.errors import UsageError
from kdrobust.headers import FIELDS, read_header

TEXT = """# @package method
# Mine: a method
# Source: Doe et al., CVPR 2031, arXiv:3101.00001
# Formula: CE
#   and more of it
# Needs: teacher (live)
# Cost: 12 student passes a step (10 attack steps + 2), 3 teacher forwards
# A remark: that is no field
# Command: kdrobust distill method=mine
#          kdrobust distill method=mine alpha=2
alpha: 1   # not the header
"""


def test_fields_notes_and_what_follows_from_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    header = read_header(path)
    assert header.summary == "Mine: a method"
    assert header["Formula"] == "CE and more of it"
    assert header["Command"].splitlines() == ["kdrobust distill method=mine", "kdrobust distill method=mine alpha=2"]
    assert header.notes == ("A remark: that is no field",)
    assert (header.paper, header.year) == ("Doe et al., CVPR 2031", 2031)
    assert (header.student_passes, header.teacher_passes) == (12, 3)
    assert header["Pitfall"] == ""


def test_an_empty_header_says_nothing(tmp_path):
    path = tmp_path / "bare.yaml"
    path.write_text("alpha: 1\n")
    header = read_header(path)
    assert (header.summary, header.year, header.paper, header.student_passes, header.teacher_passes) == (
        "", None, "", None, 0,
    )  # fmt: skip


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_header(tmp_path / "absent.yaml")


@pytest.mark.parametrize("group", ["method", "wrap", "weighting", "features", "average"])
def test_shipped_headers_name_their_source(group):
    for path in (conf_dir() / group).glob("[!_]*.yaml"):
        header = read_header(path)
        if path.stem not in ("none", "distance"):
            assert header["Source"], path
        misspelt = [note for note in header.notes if note.split(":")[0].capitalize() in FIELDS]
        assert not misspelt, path
