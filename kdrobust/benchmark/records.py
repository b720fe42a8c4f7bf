"""What the jobs of a suite came to: one small JSON file a block, a line a job, checked against its schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kdrobust.benchmark.plan import Job
from kdrobust.benchmark.suite import Block, Suite
from kdrobust.errors import DataError
from kdrobust.tracking.atomic import write_text

#: Version of the files; raised when a field changes its meaning.
VERSION = 1
_SCHEMA = Path(__file__).parent / "schema" / "records.json"

Record = Mapping[str, Any]


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) that every file of records fits."""
    loaded: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return loaded


def identity(job: Job) -> dict[str, Any]:
    """What tells a job from the others of its block."""
    return {"method": job.method, "student": job.student, "seed": job.seed, "values": dict(job.values)}


def records_path(results: Path, suite: str, block: str) -> Path:
    """Where a block's records are kept."""
    return results / suite / f"{block}.json"


def read_records(path: Path) -> list[Record]:
    """The records of a block; none where the file is not there.

    Raises:
        DataError: it is damaged, or does not fit the schema.
    """
    import jsonschema

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator(schema()).validate(data)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); take it from version control, or delete it") from None
    except jsonschema.ValidationError as error:
        raise DataError(f"{path}: {error.json_path}: {error.message}") from None
    records: list[Record] = data["records"]
    return records


def write_records(path: Path, suite: Suite, block: Block, records: Iterable[Record]) -> None:
    """Write a block's records in one step, in the order of method, student, values and seed.

    Raises:
        DataError: they do not fit the schema, which is a mistake in this package.
        RunFolderError: the file cannot be written.
    """
    import jsonschema

    ordered = sorted(records, key=lambda record: json.dumps([record[key] for key in _ORDER]))
    head = {"version": VERSION, "suite": suite.name, "block": block.name, "question": block.question}
    try:
        jsonschema.Draft202012Validator(schema()).validate({**head, "records": json.loads(json.dumps(ordered))})
    except jsonschema.ValidationError as error:
        raise DataError(f"{path}: {error.json_path}: {error.message}") from None
    # a line a record: a change of one shows as one in a diff
    lines = ",\n".join("  " + json.dumps(record, ensure_ascii=False, allow_nan=False) for record in ordered)
    top = "\n".join(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items())
    write_text(path, f'{{\n{top}\n "records": [\n{lines}\n ]\n}}\n')


_ORDER = ("method", "student", "values", "seed")


def settled(jobs: Sequence[Job], records: Iterable[Record]) -> dict[str, Record]:
    """Records that answer one of some jobs as it is asked now, by the job's digest."""
    wanted = {job.digest for job in jobs}
    return {record["digest"]: record for record in records if record["digest"] in wanted}


def current(jobs: Sequence[Job], records: Iterable[Record]) -> list[Record]:
    """A block's records without those of an earlier state of its suite; methods it does not ask for are others' own.

    Args:
        jobs: the block's.
        records: of the block.
    """
    wanted, asked = {job.digest for job in jobs}, {job.method for job in jobs}
    return [record for record in records if record["digest"] in wanted or record["method"] not in asked]


def expected_seconds(job: Job, records: Iterable[Record]) -> float | None:
    """How long a job should take, from the records there are.

    The mean of those of its method and student, else of its method, else of all; scaled by epochs where those differ.

    Returns:
        Seconds in one process; None where nothing was measured.
    """
    known = list(records)
    for keys in (("method", "student"), ("method",), ()):
        alike = [record for record in known if all(record[key] == getattr(job, key) for key in keys)]
        if alike:
            training = sum(float(record["seconds"]["training"]) / record["epochs"] for record in alike) * job.epochs
            return float(training + sum(record["seconds"]["evaluation"] for record in alike)) / len(alike)
    return None
