"""Listening to a library's logger, and saying once what it said often."""

import logging

from kdrobust.attacks.external.guard import condensed, overheard


def test_a_logger_is_overheard_and_then_as_before(caplog):
    logger = logging.getLogger("somebody")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with overheard("somebody") as lines:
            logger.info("not this")
            logger.warning("this\n  one")
            logger.error("and %d", 2)
        assert lines == ["this one", "and 2"]
        assert caplog.records == []
        assert (logger.handlers, logger.level, logger.propagate) == ([handler], logging.DEBUG, True)
        logger.warning("spoken again")
        assert [record.getMessage() for record in caplog.records] == ["spoken again"]
    finally:
        logger.removeHandler(handler)


def test_lines_that_differ_in_numbers_are_one():
    lines = ["there are 3 points", "other", "there are 12 points", "decreased by 1.5%", "decreased by 20%"]
    assert condensed(lines) == ("there are 3 points (said 2 times)", "other", "decreased by 1.5% (said 2 times)")
    assert condensed([]) == ()
