import subprocess
import sys

from kdrobust.tracking.owner import is_gone, me


def test_this_process_is_there_and_a_killed_one_is_gone_even_before_it_is_reaped():
    assert not is_gone(me())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert not is_gone({**me(), "pid": child.pid, "born": None})
    owner = {**me(), "pid": child.pid, "born": 1}
    child.kill()
    child.wait()
    assert is_gone(owner)
    assert is_gone({**owner, "born": None})


def test_a_number_given_to_another_process_is_not_the_owner():
    mine = me()
    assert mine["born"] is not None
    assert is_gone({**mine, "born": mine["born"] - 1})


def test_of_another_host_nothing_is_known():
    assert not is_gone({"pid": 1, "host": "elsewhere", "born": 1})
    assert is_gone(None)
    assert is_gone({})
