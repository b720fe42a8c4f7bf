"""Tables as Markdown text."""

import pytest

from kdrobust.report.markdown import markdown_table

LINES = [["method", "loss", "clean"], ["rslad", "KL(p | q)", "95.4"], ["mart", "two\nlines", ""]]


def test_words_stand_left_and_numbers_right():
    assert markdown_table(LINES, words=2) == (
        "| method | loss | clean |\n| --- | --- | ---: |\n| rslad | KL(p \\| q) | 95.4 |\n| mart | two lines |  |"
    )


@pytest.mark.parametrize(("words", "rule"), [(1, "| --- | ---: | ---: |"), (None, "| --- | --- | --- |")])
def test_the_rule_says_which(words, rule):
    assert markdown_table(LINES, words=words).splitlines()[1] == rule


def test_a_heading_alone_is_a_table():
    assert markdown_table([["a"]]) == "| a |\n| --- |"


def test_a_line_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 columns, but a line has 1 cells"):
        markdown_table([["a", "b"], ["c"]])
