"""From suites to jobs; the shipped suites' jobs compose."""

import pytest
from omegaconf import OmegaConf

from kdrobust import listing
from kdrobust.benchmark.plan import chosen_blocks, chosen_methods, each_once, jobs_of, trainings, with_searches
from kdrobust.benchmark.suite import read_suite
from kdrobust.benchmark.work import check_job, training_config
from kdrobust.errors import UsageError
from kdrobust.sweeps.search import parse_search
from tests.benchmark.suites import NODE, record, suite


def test_every_combination_a_seed_at_a_time():
    made = suite()
    jobs = jobs_of(made, made.blocks["main"])
    assert len(jobs) == 3 * 2 * 3
    assert [job.seed for job in jobs] == [0] * 6 + [1] * 6 + [2] * 6
    assert len({job.digest for job in jobs}) == len(jobs)
    assert jobs[2].label == "main: gentle small seed 0"
    assert jobs[2].training == (
        "data=digits", "threat=linf_0.1", "optimizer.lr=0.01", "epochs=6", "model@student=small_cnn", "method=rslad",
        "method.alpha=0.5", "seed=0",
    )  # fmt: skip


def test_cost_is_matched_in_student_passes():
    made = suite()
    standard, gentle = jobs_of(made, made.blocks["cost"])
    assert (standard.epochs, standard.passes) == (24, 24)
    assert (gentle.epochs, gentle.passes) == (2, 24)


def test_an_evaluation_takes_over_data_and_threat():
    made = suite()
    jobs = jobs_of(made, made.blocks["ladder"])
    assert [job.values for job in jobs] == [
        {"threat.eps": eps, "method.alpha": alpha} for eps in ("0.1", "0.2") for alpha in ("0", "1")
    ]
    assert jobs[2].evaluation == ("data=digits", "threat=linf_0.1", "threat.eps=0.2", "evaluation=fast")
    assert jobs[0].label == "ladder: gentle eps=0.1 alpha=0 small seed 0"


def test_the_same_job_in_two_blocks_is_done_once():
    made = suite(blocks={**NODE["blocks"], "again": {"seeds": [1], "methods": ["standard"]}})
    main, again = (jobs_of(made, made.blocks[name]) for name in ("main", "again"))
    assert {job.digest for job in again} < {job.digest for job in main}


def test_a_tuned_job_is_another_one():
    made = suite()
    main = {job.digest for job in jobs_of(made, made.blocks["main"])}
    tuned = jobs_of(made, made.blocks["tuned"])
    assert not main & {job.digest for job in tuned}
    assert tuned[0].tune.spaces["gentle"]


def test_the_fewest_jobs_with_every_part():
    made = suite()
    assert len(each_once(jobs_of(made, made.blocks["main"]))) == 4
    assert len(each_once(jobs_of(made, made.blocks["ladder"]))) == 3


def test_blocks_and_methods_by_name():
    made = suite()
    assert [block.name for block in chosen_blocks(made, ["cost", "main"])] == ["cost", "main"]
    assert len(chosen_blocks(made)) == 4
    main = chosen_methods(made, made.blocks["main"], ["gentle", "trades"])
    assert main.methods == {"gentle": ("method=rslad", "method.alpha=0.5"), "trades": ()}
    with pytest.raises(UsageError, match=r"blocks=man: no block of suite trial; did you mean main\?"):
        chosen_blocks(made, ["man"])
    with pytest.raises(UsageError, match=r"methods=gentel: .* did you mean gentle\?"):
        chosen_methods(made, made.blocks["main"], ["gentel"])
    with pytest.raises(UsageError, match=r"tune.spaces.trades: is missing"):
        jobs_of(made, chosen_methods(made, made.blocks["tuned"], ["trades"]))


def test_without_a_told_cost_nothing_is_matched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text("# Mine\ndefaults: [_base, _self_]\n")
    made = suite()
    with pytest.raises(UsageError, match=r"header of conf/method/mine\.yaml tells no `Cost:`"):
        jobs_of(made, chosen_methods(made, made.blocks["cost"], ["mine"]))


@pytest.mark.parametrize("name", [option.name for option in listing.options("suite")])
def test_the_jobs_of_shipped_suites_compose_and_pass_the_check(name, tmp_path):
    """Entries without overrides of their own are options of group `method`, which tests/test_conf.py composes."""
    made = read_suite(name)
    seen = set()
    for block in made.blocks.values():
        for job in jobs_of(made, block):
            asked = {job.student, *job.values, block.evaluation, *block.settings, *(block.methods[job.method])}
            if asked - seen:
                check_job(job, tmp_path)
                seen |= asked
        for method, space in block.tune.spaces.items() if block.tune else ():
            keys = parse_search(method, {"space": space}).keys
            job = next(job for job in jobs_of(made, block) if job.method == method)
            cfg = training_config(job, tmp_path)
            assert all(OmegaConf.select(cfg, key) is not None for key in keys), keys
            assert job.tune.spaces[method] is space


def test_a_block_s_own_methods_can_be_asked_for_by_name():
    made = suite(blocks={"mixed": {"methods": {"slow": ["method=rslad"], "standard": []}}})
    assert chosen_methods(made, made.blocks["mixed"], ["slow"]).methods == {"slow": ("method=rslad",)}
    with pytest.raises(UsageError, match="did you mean slow"):
        chosen_methods(made, made.blocks["mixed"], ["slo"])


def test_the_first_seed_of_a_tuned_method_trains_its_search_as_well():
    made = suite()
    tuned, plain = (jobs_of(made, made.blocks[name]) for name in ("tuned", "main"))
    assert list(trainings(tuned).values()) == [4, 1, 1]
    assert list(trainings(tuned, {tuned[0].digest}).values()) == [1, 1]
    assert list(trainings(tuned, {tuned[2].digest}).values()) == [1, 1]
    assert trainings(plain) == {job.digest: 1 for job in plain}


def test_a_search_that_a_record_tells_is_not_made_again():
    made = suite()
    jobs = jobs_of(made, made.blocks["tuned"])
    found = {"overrides": ["method.alpha=0.2"], "trials": 3, "robust_validation_accuracy": 0.7}
    again = with_searches(jobs, {jobs[1].digest: record(jobs[1], tuned=found)})
    assert [job.tuned for job in again] == [found] * 3
    assert [job.digest for job in again] == [job.digest for job in jobs]
    assert [job.tuned for job in with_searches(jobs, {})] == [None] * 3
    main = jobs_of(made, made.blocks["main"])
    assert with_searches(main, {main[0].digest: record(main[0])}) == main
