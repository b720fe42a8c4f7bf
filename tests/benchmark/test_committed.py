"""What is committed under benchmarks/results: asked for as it stands, by the configuration of today, teachers beside it."""

import json
import re

from kdrobust.benchmark.kept import kept_folder
from kdrobust.benchmark.page import COMMITTED, RESULTS, benchmark_page
from kdrobust.benchmark.plan import each_once, jobs_of
from kdrobust.benchmark.records import read_records
from kdrobust.benchmark.suite import read_suite
from kdrobust.benchmark.work import training_config, tuned_config
from kdrobust.config import conf_dir, config_hash
from kdrobust.models import file_hash


def test_committed_records_answer_what_their_suite_asks_now():
    root = conf_dir().parent / RESULTS
    for path in sorted(root.glob("*/*.json")):
        made = read_suite(path.parent.name)
        asked = {job.digest for job in jobs_of(made, made.blocks[path.stem])}
        assert json.loads(path.read_text())["question"] == made.blocks[path.stem].question
        for entry in read_records(path):
            if entry["method"] in made.blocks[path.stem].methods:
                assert entry["digest"] in asked, f"{path}: {entry['method']} was measured with other settings"
            assert re.fullmatch(r"[\w-]+", entry["method"])


def test_committed_records_were_measured_with_the_configuration_of_today(tmp_path):
    """A changed default in conf/ would otherwise mix two settings in one table, unseen."""
    root = conf_dir().parent / RESULTS
    for path in sorted(root.glob("*/*.json")):
        suite_ = read_suite(path.parent.name)
        kept_ = {entry["digest"]: entry for entry in read_records(path)}
        jobs = [job for job in jobs_of(suite_, suite_.blocks[path.stem]) if job.digest in kept_]
        for job in each_once(jobs):
            entry = kept_[job.digest]
            tuned = entry.get("tuned")
            cfg = tuned_config(job, tmp_path, tuple(tuned["overrides"])) if tuned else training_config(job, tmp_path)
            assert config_hash(cfg) == entry["config_hash"], f"{path}: {job.label}: conf/ says something else by now"


def test_committed_records_name_teachers_that_are_kept_with_them():
    root = conf_dir().parent / RESULTS
    for path in sorted(root.glob("*/*.json")):
        kept = {file_hash(each) for each in kept_folder(root, path.parent.name).glob("*/best.ckpt")}
        for entry in read_records(path):
            for name, named in entry["teachers"].items():
                assert named["sha256"] in kept, f"{path}: {entry['method']} learned from a {name} that is not kept"


def test_the_page_names_who_attacks_in_training_mode(tmp_path):
    made = read_suite(COMMITTED)
    jobs = {job.method: job for job in jobs_of(made, made.blocks["equal_passes"])}
    modes = {name: training_config(job, tmp_path).method.attack.model_mode for name, job in jobs.items()}
    told = ", ".join(f"`{name}`" for name in sorted(modes) if modes[name] == "train")
    assert f"attacks the student in training mode ({told})" in " ".join(benchmark_page(tmp_path).split())
