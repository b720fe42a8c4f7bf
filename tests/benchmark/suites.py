"""A suite and records for tests: nothing is trained."""

import copy

from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import identity
from kdrobust.benchmark.suite import parse_suite

NODE = {
    "epochs": 6,
    "settings": ["data=digits", "threat=linf_0.1", "optimizer.lr=0.01"],
    "evaluation": ["evaluation=quick"],
    "baseline": "pgd_at",
    "seeds": [0, 1, 2],
    "students": {"small": ["model@student=small_cnn"], "mlp": ["model@student=mlp"]},
    "methods": {"pgd_at": [], "standard": [], "gentle": ["method=rslad", "method.alpha=0.5"]},
    "blocks": {
        "main": {"question": "Who wins?"},
        "cost": {"passes": 24, "methods": ["standard", "gentle"], "students": ["small"], "seeds": [0]},
        "ladder": {
            "methods": ["gentle"],
            "students": ["small"],
            "seeds": [0],
            "grid": {"threat.eps": [0.1, 0.2], "method.alpha": [0, 1]},
            "evaluation": ["evaluation=fast"],
        },
        "tuned": {
            "methods": ["gentle"],
            "students": ["small"],
            "tune": {
                "trials": 3,
                "seed": 7,
                "spaces": {"gentle": {"method.alpha": {"type": "float", "low": 0, "high": 1}}},
            },
        },
    },
}


def node(**changes):
    return {**copy.deepcopy(NODE), **changes}


def suite(**changes):
    return parse_suite("trial", node(**changes), told="A trial")


def record(job, *, robust=60, clean=90, n=100, **more):
    """What a job might have come to."""
    return {
        **identity(job),
        "digest": job.digest,
        "config_hash": "0" * 64,
        "epochs": job.epochs,
        "passes": job.passes,
        "validation": {"samples": 50, "epoch": 3, "accuracy": 0.9},
        "seconds": {"training": 10.0, "evaluation": 5.0},
        "parameters": 1000,
        "flops": 2000,
        "threat": {"norm": "linf", "eps": 0.1},
        "n": n,
        "clean": clean,
        "attacks": {"pgd20": robust + 1, "cascade": robust},
        "robust": robust,
        "worst_class": {"label": 3, "accuracy": 0.2},
        "unreliable": False,
        "reasons": [],
        "versions": {"kdrobust": "0"},
        "teachers": {},
        **more,
    }


def first_record(**more):
    made = suite()
    return record(jobs_of(made, made.blocks["main"])[0], **more)


def teacher(**more):
    return {
        "sha256": "1" * 64,
        "parameters": 10_000,
        "flops": 20_000,
        "n": 100,
        "clean": 95,
        "robust": 80,
        "unreliable": False,
        "agreement": 92,
        "kept": 58,
        **more,
    }


def records(made, block="main", *, of=lambda job: {}):
    return [record(job, **of(job)) for job in jobs_of(made, made.blocks[block])]
