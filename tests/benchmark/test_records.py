"""Records as data: written whole, read back, refused where damaged."""

import json

import pytest

from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import expected_seconds, read_records, records_path, settled, write_records
from kdrobust.errors import DataError
from tests.benchmark.suites import record, records, suite, teacher


@pytest.fixture
def made():
    return suite()


def test_records_come_back_sorted_a_line_each(tmp_path, made):
    path = records_path(tmp_path, "trial", "main")
    assert read_records(path) == []
    given = records(made, of=lambda job: {"teachers": {"teacher": teacher()}} if job.method == "gentle" else {})
    write_records(path, made, made.blocks["main"], given)
    read = read_records(path)
    assert len(read) == 18
    assert [entry["method"] for entry in read] == ["gentle"] * 6 + ["pgd_at"] * 6 + ["standard"] * 6
    assert sorted(map(json.dumps, read)) == sorted(map(json.dumps, given))
    assert sum('"digest"' in line for line in path.read_text().splitlines()) == 18
    assert json.loads(path.read_text())["question"] == "Who wins?"


def test_what_does_not_fit_is_refused(tmp_path, made):
    path = records_path(tmp_path, "trial", "main")
    job = jobs_of(made, made.blocks["main"])[0]
    broken = {key: value for key, value in record(job).items() if key != "robust"}
    with pytest.raises(DataError, match="is a required property"):
        write_records(path, made, made.blocks["main"], [broken])
    assert not path.exists()
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_records(path)
    write_records(path, made, made.blocks["main"], [record(job)])
    path.write_text(path.read_text().replace('"n": 100', '"n": 0'))
    with pytest.raises(DataError, match=r"\$.records\[0\].n: 0 is less than"):
        read_records(path)


def test_only_answers_to_what_is_asked_now_count(made):
    jobs = jobs_of(made, made.blocks["main"])
    before = records(made)
    assert set(settled(jobs, before)) == {job.digest for job in jobs}
    later = suite(epochs=7)
    assert settled(jobs_of(later, later.blocks["main"]), before) == {}


def test_times_are_guessed_from_what_is_alike(made):
    jobs = jobs_of(made, made.blocks["main"])
    assert expected_seconds(jobs[0], []) is None
    slow = record(jobs[0], seconds={"training": 60.0, "evaluation": 4.0})
    quick = record(jobs[1], seconds={"training": 6.0, "evaluation": 2.0})
    assert expected_seconds(jobs[0], [slow, quick]) == 64
    assert expected_seconds(jobs[2], [slow, quick]) == 36
    standard, _ = jobs_of(made, made.blocks["cost"])
    assert expected_seconds(standard, [slow, quick]) == 6 / 6 * 24 + 2
