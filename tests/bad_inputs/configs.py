"""Bad commands, overrides, config files and searches: refused before anything heavy is loaded, or soon after."""

from __future__ import annotations

from tests.bad_inputs.cases import TINY, Bad

# a table: one row an input
# fmt: off


def _distill(what: str, *typed: str, words: tuple[str, ...], lines: int = 1, **files: str) -> Bad:
    return Bad(what=what, typed=("distill", *TINY, *typed), words=words, lines=lines)


COMMANDS = [
    Bad(what="no such stage", typed=("distil",), words=("distil", "did you mean distill?")),
    Bad(what="an override for a stage", typed=("seed=3",), words=("seed=3", "a stage comes first")),
    Bad(what="a flag for a stage", typed=("--watch",), words=("--watch", "a stage comes first")),
    Bad(what="no such flag", typed=("distill", "--fast"), words=("--fast", "no such flag")),
    Bad(what="a flag without its value", typed=("distill", "--config-dir"), words=("--config-dir", "expected one")),
    Bad(what="a config folder that is not there", typed=("distill", "--config-dir=nowhere"), words=("nowhere", "no such folder")),
    Bad(what="a config name that is not there", typed=("distill", "--config-name=absent"), words=("absent", "no such config")),
    Bad(what="a config path that is not there", typed=("distill", "--config-path=nowhere"), words=("nowhere",)),
    Bad(what="no such list", typed=("list", "metods"), words=("metods", "did you mean methods?")),
    Bad(what="no such doctor", typed=("doctor", "--deep"), words=("--deep", "no such argument")),
    Bad(what="no such sweep command", typed=("sweep", "go", "."), words=("sweep go .", "status|resume")),
    Bad(what="status of no sweep", typed=("sweep", "status", "nowhere"), words=("nowhere", "holds no sweep.json")),
    Bad(what="report of nothing", typed=("report",), words=("report", "which folder?")),
    Bad(what="report of no folder", typed=("report", "nowhere"), words=("nowhere", "no such folder")),
    Bad(what="report at no port", typed=("report", ".", "--watch", "--port", "many"), words=("--port many", "65535")),
    Bad(what="report with no such flag", typed=("report", ".", "--open"), words=("--open", "--watch")),
    Bad(what="a W&B search that is not there", typed=("search", "wandb", "absent"), words=("search=absent", "no such option", "method_grid")),
    Bad(what="a W&B search of nothing", typed=("search", "wandb"), words=("kdrobust search wandb NAME",)),
    Bad(what="a shell brace", typed=("distill", "{a"), words=("{a", "key=value")),
    Bad(what="an empty argument", typed=("distill", ""), words=("key=value",)),
    Bad(what="only a key", typed=("distill", "method"), words=("method", "key=value")),
    Bad(what="no key", typed=("distill", "=3"), words=("=3", "names no key", "key=value")),
    Bad(what="unbalanced quotes", typed=("distill", "run.name='a"), words=("run.name='a", "quote")),
    Bad(what="an unclosed list", typed=("distill", "seed=[1,2"), words=("seed=[1,2", "key=value")),
    Bad(what="several values without -m", typed=("distill", "seed=1,2"), words=("seed=1,2", "add -m")),
    Bad(what="a search without -m", typed=("distill", "search=method_grid"), words=("search", "add -m")),
]

OVERRIDES = [
    _distill("a form of the teacher that is not there", "teacher.precision=fp16", words=("teacher.precision", "auto, exact, fp32 or bf16")),
    _distill("a misspelt key", "method.temprature=4", words=("method.temprature", "did you mean method.temperature?")),
    _distill("a misspelt key, forced", "+method.temprature=4", words=("method.temprature", "did you mean method.temperature?")),
    _distill("a misspelt option", "method=rsald", words=("method=rsald", "did you mean rslad?")),
    _distill("an option nobody has", "method=xyzzy", words=("method=xyzzy", "no such option", "rslad")),
    _distill("a group mounted twice", "model=small_cnn", words=("model=small_cnn", "model@student=small_cnn")),
    _distill("an added group without +", "wrap=awp", words=("wrap=awp", "+wrap=awp")),
    Bad(what="a key in a mapping", typed=("evaluate", "model.arguments={x: 1}"), words=("model.arguments has no key x", "+model.arguments.x=1")),
    _distill("another class with the old one's arguments", "optimizer._target_=torch.optim.Rprop", words=("optimizer.weight_decay", "to leave it out: ~optimizer.weight_decay")),
    _distill("deleting what is not there", "~method.absent", words=("~method.absent", "no such key")),
    _distill("a number for an option", "method=3", words=("method=3", "name of an option")),
    _distill("a mapping for an option", "method={a:1}", words=("method={a:1}", "name of an option", "rslad")),
    _distill("seed negative", "seed=-1", words=("seed", "integer >= 0", "-1")),
    _distill("seed a text", "seed=abc", words=("seed", "integer >= 0", "'abc'")),
    _distill("seed a float", "seed=1.5", words=("seed", "integer >= 0", "1.5")),
    _distill("seed null", "seed=null", words=("seed", "integer >= 0", "null")),
    _distill("seed true", "seed=true", words=("seed", "integer >= 0", "true")),
    _distill("seed missing", "seed=???", words=("seed", "not given", "seed=...")),
    _distill("seed a list", "seed=[1,2]", words=("seed", "integer >= 0")),
    _distill("seed a mapping", "seed={a:1}", words=("seed", "integer >= 0")),
    _distill("epochs none", "epochs=0", words=("epochs", "integer >= 1", "0")),
    _distill("epochs endless", "epochs=inf", words=("epochs", "integer >= 1")),
    _distill("threads none", "threads=0", words=("threads", "auto, or an integer >= 1")),
    _distill("eps negative", "threat.eps=-1/255", words=("threat.eps", "negative")),
    _distill("eps no number", "threat.eps=abc", words=("threat.eps", "fraction such as 8/255", "'abc'")),
    _distill("eps divided by zero", "threat.eps=8/0", words=("threat.eps", "fraction such as 8/255")),
    _distill("eps in units of 255", "threat.eps=8", words=("threat.eps", "8/255")),
    _distill("eps not a number", "threat.eps=nan", words=("threat.eps", "number")),
    _distill("eps infinite", "threat.eps=inf", words=("threat.eps", "number")),
    _distill("a norm that is none", "threat.norm=l7", words=("threat.norm", "linf")),
    _distill("steps negative", "attack.steps=-3", words=("attack.steps",)),
    _distill("a goal misspelt", "attack.goal=kl_to_techer", words=("attack.goal", "kl_to_teacher")),
    _distill("a start that is none", "attack.start=random", words=("attack.start", "uniform")),
    _distill("alpha above one", "method.alpha=2", words=("alpha",)),
    _distill("alpha a text", "method.alpha=half", words=("method.alpha", "number")),
    _distill("temperature zero", "method.temperature=0", words=("temperature must be positive",), lines=9),
    _distill("a loss misspelt", "method.terms.clean.loss=soft_tagret", words=("method.terms.clean.loss", "soft_target")),
    _distill("a view misspelt", "method.terms.clean.student=adversial", words=("method.terms.clean", "adversarial")),
    _distill("terms that are none", "method.terms=null", words=("method.terms", "at least one term"), lines=3),
    _distill("no optimizer", "optimizer=null", words=("optimizer", "name of an option", "adam")),
    _distill("a learning rate in words", "optimizer.lr=fast", words=("optimizer.lr", "'fast'")),
    _distill("a learning rate below zero", "optimizer.lr=-0.1", words=("optimizer", "learning rate", "-0.1")),
    _distill("batches of none", "data.batch_size=0", words=("data.batch_size",)),
    _distill("batches of a half", "data.batch_size=0.5", words=("data.batch_size",)),
    _distill("a share above one", "data.validation_fraction=2", words=("data.validation_fraction",)),
    _distill("a limit below one", "data.limit_train=-5", words=("data.limit_train",)),
    _distill("a precision that is none", "trainer.precision=17", words=("trainer.precision", "17")),
    _distill("devices none", "trainer.devices=0", words=("trainer",)),
    _distill("an accelerator that is none", "trainer.accelerator=abacus", words=("trainer", "abacus")),
    _distill("a GPU where there is none", "trainer=gpu", words=("trainer",)),
    _distill("a callback's unknown argument", "callbacks.attack.warmup_epoch=2", words=("callbacks.attack.warmup_epoch", "did you mean")),
    _distill("an interpolation to nowhere", "run.name=${nowhere}", words=("run.name", "nowhere")),
    _distill("an interpolation to itself", "seed=${seed}", words=("seed", "itself")),
    _distill("a resolver that is none", "run.name=${nope:1}", words=("run.name", "nope")),
    _distill("a resolver wrongly used", "epochs=${div:1,0}", words=("epochs", "zero")),
    _distill("a trusted package as a text", "trusted_modules=mine", words=("trusted_modules", "list of package names")),
    _distill("a trusted package that is not there", "trusted_modules=[absent_pkg]", "optimizer._target_=absent_pkg.Adam", words=("optimizer._target_", "absent_pkg is not installed")),
    _distill("an absent class", "optimizer._target_=torch.optim.Adm", words=("optimizer._target_", "torch.optim has no 'Adm'")),
    _distill("a target that is a module", "optimizer._target_=torch.optim", words=("optimizer._target_", "not a class or function")),
    _distill("a teacher that is not there", "teacher.checkpoint=absent.ckpt", words=("teacher.checkpoint=absent.ckpt", "no such file", "kdrobust teacher")),
    _distill("a teacher that is a number", "teacher.checkpoint=3", words=("teacher.checkpoint", "a text, or null")),
    _distill("no teacher at all", "teacher.checkpoint=null", words=("teacher.checkpoint",)),
    _distill("outputs that are not there", "teacher.outputs=nowhere", words=("teacher.outputs=nowhere", "no such", "kdrobust outputs")),
    _distill("a further teacher that is not there", "method=mtard", "+teachers.natural.checkpoint=absent.ckpt", words=("teachers.natural.checkpoint=absent.ckpt", "no such file")),
    _distill("a teacher nobody asks", "method=iad", "+teachers.absent.checkpoint=a.ckpt", words=("teachers.absent",)),
    _distill("a root that is a number", "run.root=3", words=("run.root", "a folder")),
    _distill("a folder that is empty", "run.folder=", words=("run.folder", "a text, or null")),
    _distill("a stage that is none", "stage=train", words=("train", "no such stage")),
    _distill("several at once", "threat.eps=abc", "seed=-1", "method.alpha=x", words=("problems in the configuration:", "threat.eps", "seed", "method.alpha"), lines=5),
    Bad(what="a method without a teacher's stage", typed=("teacher", *TINY, "method=rslad"), words=("method", "kdrobust distill")),
    Bad(what="an evaluation of nothing", typed=("evaluate",), words=("checkpoint", "set checkpoint=")),
    Bad(what="an evaluation of two kinds", typed=("evaluate", "checkpoint=a.ckpt", "model.timm=resnet18"), words=("checkpoint and model.timm", "give one")),
    Bad(what="an evaluation of an absent file", typed=("evaluate", "checkpoint=absent.ckpt"), words=("checkpoint=absent.ckpt", "no such file")),
    Bad(what="confidence above one", typed=("evaluate", "checkpoint=a.ckpt", "evaluation.confidence=95"), words=("evaluation.confidence", "(0, 1)")),
    Bad(what="an untrusted script", typed=("evaluate", "model.torchscript=a.pt"), files={"a.pt": b"x"}, words=("model.torchscript=a.pt", "model.trust=true")),
    Bad(what="an untrusted import", typed=("evaluate", "model.import=os:system"), words=("model.import=os:system", "not allowed", "standard library")),
    Bad(what="an export without its argument", typed=("evaluate", "model.timm=resnet18"), words=("model.timm=resnet18", "model.weights")),
    Bad(what="seeds twice", typed=("pipeline", "seeds=[1,1]"), words=("seeds", "different integers")),
    Bad(what="no seeds", typed=("pipeline", "seeds=[]"), words=("seeds", "[0,1,2]")),
    Bad(what="radii as words", typed=("evaluate", "checkpoint=a.ckpt", "radii=[a,b]"), words=("radii", "fractions")),
]


def _file(what: str, content: str | bytes, *typed: str, name: str = "method/mine.yaml", words: tuple[str, ...], lines: int = 1) -> Bad:
    chosen = typed or ("method=mine",)
    return Bad(what=what, typed=("distill", *TINY, *chosen), files={f"conf/{name}": content}, words=words, lines=lines)


FILES = [
    _file("YAML that is none", "a: [1\n", words=("mine.yaml", "not valid YAML")),
    _file("YAML with tabs", "a:\n\tb: 1\n", words=("mine.yaml", "not valid YAML")),
    _file("a list for a config", "- 1\n- 2\n", words=("method", "a mapping of keys"), lines=14),
    _file("a text for a config", "hello\n", words=("method.attack",), lines=14),
    _file("an empty config", "", words=("method.attack",), lines=14),
    _file("bytes for a config", b"\xff\xfe\x00\x01", words=("mine",)),
    _file("a YAML tag that makes objects", "a: !!python/object/apply:os.mkdir [owned]\n", words=("mine.yaml", "not valid YAML")),
    _file("a key twice", "a: 1\na: 2\n", words=("mine.yaml", "not valid YAML", "duplicate")),
    _file("defaults that lead nowhere", "defaults:\n  - absent\n", words=("absent", "no such")),
    _file("defaults in a circle", "defaults:\n  - mine\n", words=("mine",)),
    _file("terms as a list", "defaults: [_base]\nterms: [1, 2]\n", words=("method/mine", "Cannot merge DictConfig with ListConfig")),
    _file("a term without a loss", "defaults: [rslad]\nterms: {clean: {loss: null}}\n", words=("method.terms.clean",)),
    _file("an unknown key", "defaults: [rslad]\nalhpa: 3\n", words=("method.alhpa", "did you mean method.alpha?")),
    _file("a schedule that is none", "defaults: [rslad]\nterms: {clean: {weight: {schedule: cubic}}}\n", words=("method.terms.clean.weight", "cubic")),
    _file("an experiment that contradicts itself", "# @package _global_\ndefaults:\n  - override /method: absent\n", "experiment=mine", name="experiment/mine.yaml", words=("absent", "no such")),
]


def _search(what: str, content: str, *typed: str, words: tuple[str, ...], lines: int = 1) -> Bad:
    return Bad(
        what=what,
        typed=("distill", "-m", *TINY, "search=mine", *typed),
        files={"conf/search/mine.yaml": "defaults: [_base, _self_]\n" + content},
        words=words,
        lines=lines,
    )


_SPACE = "space: {method.alpha: {type: float, low: 0.1, high: 0.9}}\n"
SEARCHES = [
    _search("an empty space", "space: {}\n", words=("search.space", "at least one parameter")),
    _search("a space of lists", "space: {method.alpha: [1, 2]}\n", words=("search.space.method.alpha", "type: float")),
    _search("a type that is none", "space: {method.alpha: {type: real}}\n", words=("search.space.method.alpha.type", "float, int, choice")),
    _search("bounds upside down", "space: {method.alpha: {type: float, low: 1, high: 0}}\n", words=("search.space.method.alpha", "low")),
    _search("a bound in words", "space: {method.alpha: {type: float, low: a, high: 1}}\n", words=("search.space.method.alpha.low",)),
    _search("a logarithm of zero", "space: {method.alpha: {type: float, low: 0, high: 1, log: true}}\n", words=("search.space.method.alpha", "log")),
    _search("a choice of nothing", "space: {method: {type: choice, values: []}}\n", words=("search.space.method.values", "at least one")),
    _search("a parameter's unknown key", "space: {method.alpha: {type: float, low: 0, hgih: 1}}\n", words=("search.space.method.alpha.hgih", "high"), lines=3),
    _search("a searched key that is not there", "space: {method.alhpa: {type: float, low: 0, high: 1}}\n", words=("method.alhpa", "did you mean method.alpha?")),
    _search("a sampler that is none", _SPACE + "sampler: bayes\n", words=("search.sampler=bayes", "tpe")),
    _search("an argument no sampler takes", _SPACE + "sampler_options: {absent: 3}\n", words=("search.sampler_options", "absent")),
    _search("a pruner for two metrics", _SPACE + "metrics: [accuracy, robust_accuracy]\npruner: median\n", words=("search.pruner=median", "search.pruner=null"), lines=3),
    _search("a grid without steps", _SPACE + "sampler: grid\n", words=("search.space.method.alpha", "a grid needs step")),
    _search("no trials", _SPACE + "n_trials: 0\n", words=("search.n_trials", "integer >= 1")),
    _search("a direction that is none", _SPACE + "directions: [up]\n", words=("search.directions", "maximize or minimize")),
    _search("a constraint in words", _SPACE + "constraints: [small please]\n", words=("search.constraints", "parameters <=")),
    _search("a storage that is none", _SPACE + "storage: postgres\n", words=("search.storage=postgres", "sqlite")),
    _search("a seed that is none", _SPACE + "seeds: [-1]\n", words=("search.seeds", "[0,1,2]")),
    Bad(what="a sweep over an unknown key", typed=("distill", "-m", "method.alhpa=1,2"), words=("method.alhpa", "did you mean method.alpha?")),
    Bad(what="a sweep over an unknown option", typed=("distill", "-m", "method=rslad,rsald"), words=("method=rsald", "did you mean rslad?")),
    Bad(what="a sweeper that is none", typed=("distill", "-m", "hydra/sweeper=absent", "seed=1,2"), words=("hydra/sweeper=absent", "no such option")),
    Bad(what="a launcher that is none", typed=("distill", "-m", "hydra/launcher=slurm", "seed=1,2"), words=("hydra/launcher=slurm", "no such option")),
    Bad(what="a launcher's unknown key", typed=("distill", "-m", "hydra/launcher=joblib", "hydra.launcher.njobs=2", "seed=1,2"), words=("hydra.launcher.njobs", "no such key")),
]
