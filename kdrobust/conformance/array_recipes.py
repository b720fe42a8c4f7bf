"""How each array of a file is computed with our attacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrobust.attacks import APGD, DDN, FMN, CarliniWagner, Cascade, GradientAttack, Square, Threat
from kdrobust.attacks.ascent import Ascent
from kdrobust.attacks.cascade import Member
from kdrobust.attacks.goals import kl
from kdrobust.attacks.threat import l2_norm
from kdrobust.conformance.arrays import ArrayFile, ArrayOutcome, Rule, chosen, compare
from kdrobust.errors import DataError, KdrobustError

#: Steps of the stored paths: of the plain attacks, and of APGD.
STEPS, APGD_STEPS = 10, 50
#: Looks at the model that Square gets.
QUERIES = 2000
#: What is given, not compared.
GIVEN = ("model", "teacher", "start", "x", "y", "y_target")
_TAG = re.compile(r"e(\d+)(m?)")


class BoxThenBall(Threat):
    """The other order for ℓ2, which some libraries have: clip to the box first, then back into the ball."""

    def project(self, adversarial: Tensor, inputs: Tensor, radius: float | Tensor) -> Tensor:
        """The nearest point of the box, then of the ball."""
        delta = self.clip(adversarial) - inputs
        return inputs + delta * (radius / (l2_norm(delta) + 1e-7)).clamp(max=1.0)


@dataclass(kw_only=True)
class ArrayRecipes:
    """Computes what a file's arrays should be.

    Args:
        file: the file.
        queries: looks at the model that Square gets in the worst case of all attacks.
    """

    file: ArrayFile
    queries: int = QUERIES
    _known: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Classes of the file's model."""
        return self.file.get("model/fc_b").numel()

    def ours(self, key: str) -> tuple[Tensor, Rule] | None:
        """Our array for a key and how it has to stand to theirs; None where nothing is to be compared.

        Raises:
            DataError: nothing here answers for that key, or the file lacks what it needs.
        """
        method, _, rest = key.partition("/")
        if method in GIVEN:
            return None
        if method in _OBJECTIVES:
            return _OBJECTIVES[method](self), "equal"
        if method not in _METHODS or not rest:
            raise DataError(f"nothing here computes {key}")
        tag, _, who = rest.partition("/")
        return _METHODS[method](self, tag, who)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """A result that several arrays are about, computed when first asked for."""
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def attack(
        self,
        norm: str,
        tag: str,
        *,
        start: Tensor | None = None,
        labels: Tensor | None = None,
        victim: str = "model",
        threat: type[Threat] = Threat,
        **settings: Any,
    ) -> Tensor:
        """Our gradient loop's x'; ε from the tag, the step a quarter (ℓ2: a fifth) of it."""
        eps = radius(tag)
        options = {"steps": STEPS, "step_size": eps / (4 if norm == "linf" else 5), **settings}
        runner = GradientAttack(threat=threat(norm=norm, eps=eps), **options)
        truth = self.file.labels if labels is None else labels
        teacher = self.file.model("teacher") if "teacher" in str(options.get("goal")) else None
        return runner(self.file.model(victim), self.file.inputs, truth, teacher=teacher, initial=start, validate=False)

    def noise(self, name: str, scale: float) -> Tensor:
        """The samples plus a stored noise, not clipped."""
        return self.file.inputs + scale * self.file.get(f"start/{name}").double()

    def apgd(self, goal: str, tag: str) -> Ascent:
        """APGD from its stored start."""
        norm, _, size = tag.partition("_")
        threat = Threat(norm=norm, eps=radius(size))
        targets = self.file.get("y_target").long() if goal == "dlr_targeted" else None
        runner = APGD(threat=threat, goal=goal, steps=APGD_STEPS, compact=False)
        start = self.file.get(f"start/apgd_{tag}").double()
        return runner.climb(
            self.file.model(), self.file.inputs, self.file.labels, initial=start, targets=targets, validate=False
        )

    def standing(self, norm: str, eps: float) -> Tensor:
        """Which samples all our attacks together leave standing, [B] bool."""
        threat = Threat(norm=norm, eps=eps)
        attacks: dict[str, Member] = {
            "apgd_ce": APGD(threat=threat),
            # its ratio needs four classes
            "apgd_t": APGD(threat=threat, goal="dlr_targeted" if self.classes >= 4 else "margin_targeted"),
            "fmn": FMN(threat=threat, targets=9, stop_at_eps=True),
            "square": Square(threat=threat, queries=self.queries),
        }
        cascade = Cascade(threat=threat, attacks=attacks)
        return ~cascade.run(self.file.model(), self.file.inputs, self.file.labels, validate=False).fooled

    def nearest(self, norm: str) -> Tensor:
        """How far the nearest adversarial example is that our minimum-norm attacks find, [B]."""
        threat = Threat(norm=norm, eps=1.0)
        others = self.classes - 1
        # the nearest class may be any, and which local minimum is found depends on start and step
        attacks: list[Member] = [
            FMN(threat=threat, restarts=10),
            FMN(threat=threat, targets=others, restarts=3, step_size=0.5),
        ]
        if norm == "l2":
            attacks += [CarliniWagner(threat=threat, first_c=1.0, rounds=6), DDN(threat=threat, steps=300)]
        found = [
            attack.run(self.file.model(), self.file.inputs, self.file.labels, keys=None, seed=0, validate=False).extra[
                "distance"
            ]
            for attack in attacks
        ]
        return torch.stack(found).nan_to_num(nan=float("inf")).amin(dim=0)


def radius(tag: str) -> float:
    """ε of a tag: `e8` is 8/255, `e100m` 100/1000.

    Raises:
        DataError: no such tag.
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        raise DataError(f"{tag}: expected a tag such as e8 (8/255) or e100m (0.1)")
    return int(match[1]) / (1000.0 if match[2] else 255.0)


Answer = tuple[Tensor, Rule] | None
Method = Callable[[ArrayRecipes, str, str], Answer]


def _plain(norm: str, *, fault: str | None = None, **settings: Any) -> Method:
    def compute(case: ArrayRecipes, tag: str, who: str) -> Answer:
        options = {**settings, "step_size": radius(tag)} if settings.get("steps") == 1 else settings
        ours = case.once(f"{norm} {tag} {options}", lambda: case.attack(norm, tag, **options))
        return ours, "differ" if fault is not None and fault in who else "equal"

    return compute


def _from_uniform(*, clipped: bool, **settings: Any) -> Method:
    def compute(case: ArrayRecipes, tag: str, who: str) -> Answer:
        start = case.noise("uniform_pm1", radius(tag))
        options = {**settings, "step_size": 1.25 * radius(tag)} if settings.get("steps") == 1 else settings
        return case.attack("linf", tag, start=start.clamp(0, 1) if clipped else start, **options), "equal"

    return compute


def _targeted(case: ArrayRecipes, tag: str, who: str) -> Answer:
    return case.attack("linf", tag, labels=case.file.get("y_target").long(), targeted=True), "equal"


def _momentum(case: ArrayRecipes, tag: str, who: str) -> Answer:
    size, _, share = tag.partition("_mu")
    return case.attack("linf", size, momentum=float(share)), "differ" if "sign_momentum" in who else "equal"


def _margin(case: ArrayRecipes, tag: str, who: str) -> Answer:
    if not who.startswith("advlib"):
        return case.attack("linf", tag, goal="margin"), "equal"
    # that library returns the last iterate that fools, and x itself where none does
    last, found = case.file.inputs.clone(), torch.zeros(len(case.file.labels), dtype=torch.bool)
    for steps in range(STEPS + 1):
        point = case.attack("linf", tag, goal="margin", steps=steps)
        wrong = case.file.model()(point).argmax(dim=1) != case.file.labels
        last[wrong], found = point[wrong], found | wrong
    return (found if who.endswith("found") else last), "equal"


def _distilled(goal: str) -> Method:
    def compute(case: ArrayRecipes, tag: str, who: str) -> Answer:
        return case.attack("linf", tag, goal=goal, start=case.noise("normal_noise", 0.001)), "equal"

    return compute


def _trades(norm: str) -> Method:
    def compute(case: ArrayRecipes, tag: str, who: str) -> Answer:
        if who.startswith("loss_beta"):
            return _trades_loss(case, f"trades_kl_{norm}/{tag}/trades_official", float(who.removeprefix("loss_beta")))
        start = case.noise("normal_noise" if norm == "linf" else "normal_noise2", 0.001)
        if norm == "linf":
            start = start.clamp(0, 1) if "torchattacks" in who else start
            return case.attack(norm, tag, goal="kl_to_clean", start=start), "equal"
        size = 2 * radius(tag) / STEPS
        return case.attack(norm, tag, goal="kl_to_clean", start=start, step_size=size, threat=BoxThenBall), "equal"

    return compute


def _trades_loss(case: ArrayRecipes, point: str, beta: float) -> Answer:
    model = case.file.model()
    clean, adversarial = model(case.file.inputs), model(case.file.get(point).double())
    return F.cross_entropy(clean, case.file.labels) + beta * kl(clean, adversarial).mean(), "equal"


def _transfer(case: ArrayRecipes, tag: str, who: str) -> Answer:
    return case.attack("linf", tag, victim="teacher"), "equal"


def _apgd(goal: str) -> Method:
    def compute(case: ArrayRecipes, tag: str, who: str) -> Answer:
        ascent: Ascent = case.once(f"apgd {goal} {tag}", lambda: case.apgd(goal, tag))
        found = {
            "official_x_best_loss": ascent.best,
            "official_x_best_adv": ascent.fooling,
            "official_best_loss": ascent.best_value,
            "official_still_correct": ~ascent.fooled,
        }
        if who not in found:
            raise DataError(f"nothing here computes {who}")
        return found[who], "equal"

    return compute


def _autoattack(case: ArrayRecipes, tag: str, who: str) -> Answer:
    # the single attacks' verdicts are random, ε is given
    if who != "robust_all":
        return None
    eps = float(case.file.get(f"autoattack/{tag}/eps"))
    return case.standing(tag.partition("_")[0].lower(), eps), "equal"


def _minimum_norm(case: ArrayRecipes, norm: str, who: str) -> Answer:
    if not who.endswith("/dist"):
        return None
    return case.once(f"nearest {norm}", lambda: case.nearest(norm)), "no_farther"


def _gradient(case: ArrayRecipes) -> Tensor:
    x = case.file.inputs.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(case.file.model()(x), case.file.labels, reduction="sum"), x)
    return gradient


_OBJECTIVES: Mapping[str, Callable[[ArrayRecipes], Tensor]] = {
    "logits": lambda case: case.file.model()(case.file.inputs),
    "teacher_logits": lambda case: case.file.model("teacher")(case.file.inputs),
    "ce_per_sample": lambda case: F.cross_entropy(
        case.file.model()(case.file.inputs), case.file.labels, reduction="none"
    ),
    "ce_sum_grad_x": _gradient,
}
_METHODS: Mapping[str, Method] = {
    "fgsm_linf": _plain("linf", steps=1),
    "fgm_l2": _plain("l2", steps=1),
    "pgd_linf_ce": _plain("linf"),
    "pgd_linf_ce_uniform_start": _from_uniform(clipped=True),
    "pgd_linf_ce_targeted": _targeted,
    "pgd_linf_dlr": _plain("linf", goal="dlr"),
    "pgd_linf_margin": _margin,
    "pgd_l2_ce": _plain("l2", fault="clip_then_project"),
    "fgsm_rs": _from_uniform(clipped=True, steps=1),
    "mifgsm_linf": _momentum,
    "ard_ce_linf": _from_uniform(clipped=False),
    "trades_kl_linf": _trades("linf"),
    "trades_kl_l2": _trades("l2"),
    "rslad_kl_linf": _distilled("kl_to_teacher"),
    "adaad_kl_linf": _distilled("kl_to_live_teacher"),
    "transfer_pgd_linf_ce_from_teacher": _transfer,
    "apgd_ce": _apgd("cross_entropy"),
    "apgd_dlr": _apgd("dlr"),
    "apgd_t_dlr": _apgd("dlr_targeted"),
    "autoattack": _autoattack,
    "minnorm": _minimum_norm,
}


def check_arrays(
    file: ArrayFile, *, tolerance: float = 1e-9, only: Collection[str] = (), queries: int = QUERIES
) -> list[ArrayOutcome]:
    """Compute a file's arrays in float64 and compare.

    Args:
        file: the file.
        tolerance: absolute difference allowed where theirs is float64; float32 arrays have 1e-6, in ℓ2 1e-5.
        only: attacks, as the keys begin; empty for all.
        queries: looks at the model that Square gets.
    """
    recipes = ArrayRecipes(file=file, queries=queries)
    outcomes = []
    for key in chosen(file, only):
        theirs = file.get(key)
        try:
            answer = recipes.ours(key)
        except (KdrobustError, ValueError, RuntimeError) as error:
            outcomes.append(ArrayOutcome(key=key, problem=str(error).splitlines()[0]))
            continue
        if answer is not None:
            wide = 1e-5 if "l2" in key.split("/")[0] else 1e-6
            allowed = max(tolerance, wide) if theirs.dtype == torch.float32 else tolerance
            outcomes.append(compare(key, answer[0], theirs, answer[1], allowed))
    return outcomes
