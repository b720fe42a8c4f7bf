"""Evaluation results as stage `evaluate` writes them, without running one."""

import pytest

from kdrobust.evaluation import wilson


def _result(clean, fgsm, pgd20, *, n=1000, checks=(), eps=0.1, **more):
    def figure(correct):
        return {"correct": correct, "n": n, "accuracy": correct / n, "interval": list(wilson(correct, n))}

    def attack(correct, steps, start):
        spec = {"attack": "GradientAttack", "threat": {"norm": "linf", "eps": eps}, "goal": "cross_entropy"}
        spec |= {"steps": steps, "step_size": eps if steps == 1 else eps / 4, "start": start, "restarts": 1}
        return {**figure(correct), "spec": spec, "seconds": 1.0}

    attacks = {"fgsm": attack(fgsm, 1, "none"), "pgd20": attack(pgd20, 20, "uniform")}
    attacks |= {name: attack(correct, 50, "uniform") for name, correct in more.items()}
    verdicts = [
        {"id": id, "name": "a check", "definition": "", "verdict": verdict, "detail": detail, "measured": {}}
        for id, verdict, detail in (("S0", "pass", "fine"), *checks)
    ]
    reasons = [f"{check['id']} {check['name']}: {check['detail']}" for check in verdicts if check["verdict"] == "fail"]
    return {
        "threat": {"norm": "linf", "eps": eps},
        "n": n,
        "confidence": 0.95,
        "clean": figure(clean),
        "attacks": attacks,
        "worst_case": {**figure(min(fgsm, pgd20, *more.values())), "over": list(attacks)},
        "checks": verdicts,
        "unreliable": bool(reasons),
        "reasons": reasons,
    }


@pytest.fixture
def result():
    return _result


@pytest.fixture
def rows():
    seeds = [_result(700 + 10 * seed, 480 + 5 * seed, 460 + 4 * seed) for seed in (0, 1, 2)]
    model = {"parameters": 13370, "flops": 151_200, "size_bytes": 1}
    return [
        {
            "name": "teacher",
            "results": [{"model": {"parameters": 3_400_000, "flops": 2e9}, "evaluation": _result(900, 700, 650)}],
        },
        {"name": "student", "results": [{"model": model, "evaluation": evaluation} for evaluation in seeds]},
    ]
