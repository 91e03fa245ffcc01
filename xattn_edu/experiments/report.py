"""The report of everything that was measured, docs/results.md: `xattn results --write`.

Each section is a function that reads stored runs, or a stored benchmark, and returns Markdown. The numbers come from
results/ and nowhere else, so the report changes with them.
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xattn_edu.data.scenes import KINDS
from xattn_edu.experiments.objects import PATHWAYS, PREDICTED_LEADS
from xattn_edu.experiments.runs import RESULTS, load_results
from xattn_edu.measure.intervals import Interval, mean_interval
from xattn_edu.models.fusions import PAPER_FUSIONS

REPORT = RESULTS.parent / "docs" / "results.md"
Run = dict[str, Any]

_COUNT_WORDS = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}
_LAVT_MODELS = {
    "lavt": "LAVT",
    "lavt_pwam": "PWAM alone",
    "lavt_pathway": "language pathway alone",
    "lavt_neither": "neither",
    "decoder_fusion": "fused in the decoder",
}
_LAVT_SCORES = {  # P@0.5 is the accuracy that is stored
    "oIoU": "oIoU",
    "mIoU": "mIoU",
    "P@0.5": "test_accuracy",
    "P@0.7": "P@0.7",
    "P@0.9": "P@0.9",
    "mIoU with another scene's sentence": "mIoU exchanged",
}
_CLAIMS = [
    ("lavt", "lavt_pwam"),
    ("lavt", "lavt_pathway"),
    ("lavt_pwam", "lavt_neither"),
    ("lavt_pathway", "lavt_neither"),
    ("lavt", "decoder_fusion"),
]
_TESTS_OF_WORDS = {
    "colour and noun never said together before": "mIoU unseen_pairs",
    "words never heard before": "mIoU unseen_words",
}


def markdown(folder: str | Path | None = None) -> str:
    """The whole report as Markdown, from the results in `folder` (default: the course's own, results/).

    Raises FileNotFoundError, saying how to make them, where results are missing.
    """
    folder = RESULTS if folder is None else Path(folder)
    head = _text(
        "# What was measured",
        "This file is written by `xattn results --write` from [results/](../results), which holds every run with its "
        "settings, seed, versions and machine. Do not edit it: a test compares it with what the command writes.",
        "A cell such as 86.9 ± 0.9 is the mean over the seeds and the half-width of its 95 % confidence interval "
        "(Student's t). The command under a heading runs the experiment again. Unless a section says otherwise, the "
        "profile is `ci` and the numbers are of the test set.",
    )
    return "\n".join([head, *(section(folder) for section in _SECTIONS)])


def _vit(folder: Path) -> str:
    runs = _runs("vit-fashion-mnist", folder)
    rows = [
        (f"patch {patch}", _percent(of_patch), f"{of_patch[0]['macs'] / 1e6:.1f} M")
        for patch in (14, 7, 4)
        if (of_patch := _where(runs, patch=patch))
    ]
    seconds = [run["seconds"] for run in _where(runs, patch=7)]
    return _section(
        "A small ViT on clothes: patch size",
        "xattn reproduce vit-fashion-mnist",
        f"A small ViT is trained on the {runs[0]['train_images']:,} images of Fashion-MNIST that ship with the course, "
        f"and tested on {runs[0]['test_images']:,} ({_seeds(runs)}).",
        _table(("", "test accuracy (%)", "MACs an image"), rows),
        f"One run with patch 7 takes {min(seconds):.0f} to {max(seconds):.0f} seconds on two CPU cores.",
    )


def _mixers(folder: Path) -> str:
    runs = _runs("vit-mixers", folder)
    by_mixer = {mixer: _where(runs, mixer=mixer) for mixer in {run["mixer"] for run in runs}}
    best_first = sorted(by_mixer, key=lambda mixer: (-_interval(by_mixer[mixer]).mean, mixer))
    rows = [(mixer, _percent(by_mixer[mixer]), f"{by_mixer[mixer][0]['macs'] / 1e6:.1f} M") for mixer in best_first]
    return _section(
        "The same ViT with another mixer in place of self-attention",
        "xattn reproduce vit-mixers",
        f"Patch 4, the mean of the patches instead of a class token ({_seeds(runs)}). Notebook 4 says what the order "
        "means and what it does not.",
        _table(("mixer", "test accuracy (%)", "MACs an image"), rows),
    )


def _translation(folder: Path) -> str:
    runs = _runs("translation", folder)
    labels = {"cross_attention": "cross_attention", "bottleneck": "bottleneck (one vector)"}
    rows = [(label, _percent(_where(runs, model=model))) for model, label in labels.items()]
    return _section(
        "Dates and numbers, translated",
        "xattn reproduce translation",
        "Dates and numbers in seventeen English and Korean formats are translated to ISO form. The answers were never "
        f"seen in training ({_seeds(runs)}).",
        _table(("", "exactly right (%)"), rows),
    )


def _fusions(folder: Path) -> str:
    runs = _runs("fusions", folder)

    def of(fusion: str, task: str) -> list[Run]:
        return _where(runs, fusion=fusion, task=task)

    measured = [fusion for fusion in PAPER_FUSIONS if of(fusion, "fashion")]
    rows = [
        (
            fusion,
            _percent(of(fusion, "fashion")),
            f"{_percent(of(fusion, 'fashion'), 'small_accuracy')}; {_percent(of(fusion, 'fashion'), 'large_accuracy')}",
            _percent(of(fusion, "letters")),
            _percent(of(fusion, "cues")),
            f"{of(fusion, 'fashion')[0]['macs'] / 1e6:.1f} M",
        )
        for fusion in measured
    ]
    none = _interval(of("none", "fashion"))
    ahead = [f for f in measured if f != "none" and _interval(of(f, "fashion")).low > none.high]
    found = f"the intervals of {', '.join(ahead)} lie above it" if ahead else "no fusion's interval lies above it"
    return _section(
        "CrossViT's five fusions on three tasks",
        "xattn reproduce fusions --seeds 5",
        f"A small CrossViT ({_seeds(runs)}) on three tasks. *Fashion*: clothes. *Letters*: the relation of a big "
        "letter to the small ones it is made of. *Cues*: the letter under a glow. S and L alone: the accuracy of the "
        "class token of one branch.",
        _table(
            ("fusion", "fashion (%)", "S alone; L alone", "letters (%)", "cues (%)", "MACs an image (fashion)"), rows
        ),
        f"On clothes, *none* has {none:.1f} %, and {found}. Notebook 8 says what was tried to see the paper's "
        "advantage of cross-attention.",
    )


def _referring(folder: Path) -> str:
    runs = _runs("referring", folder)
    tests = {
        "all test scenes": "mIoU",
        **{kind: f"mIoU {kind}" for kind in KINDS},
        "words in any order": "mIoU disordered",
        "the sentence of another scene": "mIoU exchanged",
        **_TESTS_OF_WORDS,
    }
    return _section(
        "Referring segmentation, words and image fused in a decoder",
        "xattn reproduce referring --seeds 4",
        "A Swin and a small BERT meet in a Transformer decoder, trained from scratch on "
        f"{runs[0]['train_scenes']:,} scenes of {runs[0]['image']} pixels ({_seeds(runs)}). A mask of all objects gets "
        "about 17 % and needs no words, so the last rows change the words.",
        _table(("tested on", "mIoU (%)"), [(name, _percent(runs, score)) for name, score in tests.items()]),
    )


def _lavt(folder: Path) -> str:
    runs = _runs("lavt", folder)
    rows = [
        (label, *(_percent(_where(runs, model=model), score) for score in _LAVT_SCORES.values()))
        for model, label in _LAVT_MODELS.items()
    ]
    claims = []
    for ahead, behind in _CLAIMS:
        lead = _lead(_where(runs, model=ahead), _where(runs, model=behind))
        came_out = "yes" if lead.low > 0 else "the reverse" if lead.high < 0 else "open"
        claims.append((f"{_LAVT_MODELS[ahead]} > {_LAVT_MODELS[behind]}", f"{lead:.1f}", came_out))
    return _section(
        "LAVT and its ablation",
        "xattn reproduce lavt --seeds 5",
        f"LAVT, LAVT without each of its parts, and fusion in the decoder, with the same encoders on "
        f"{runs[0]['train_scenes']:,} scenes in {runs[0]['steps']:,} steps ({_seeds(runs)}; all in %).",
        _table(("", *_LAVT_SCORES), rows),
        "The order that the paper reports, tested seed by seed with the mIoU: the mean of the leads and its interval. "
        "*Open*: the interval holds 0. Notebook 12 says what this budget can and cannot show. The models of the last "
        "row differ in more than the place where the words come in.",
        _table(("claim", "lead (points)", "came out"), claims),
    )


def _objects(folder: Path) -> str:
    runs, rows = _runs("objects", folder), []
    for about, (bound, points) in PREDICTED_LEADS.items():
        for words, label in (("each", "each word"), ("mean", "their mean")):
            both = {model: _where(runs, about=about, words=words, model=model) for model in PATHWAYS}
            lead = _lead(both["pathway"], both["no_pathway"], "test_accuracy")
            came_out = lead.low >= points if bound == "at least" else lead.high <= points
            opposite = lead.high < points if bound == "at least" else lead.low > points
            rows.append(
                (
                    about,
                    label,
                    *(_percent(of_model) for of_model in both.values()),
                    f"{lead:.1f}",
                    f"{bound} {points:.0f}",
                    "yes" if came_out else "no" if opposite else "open",
                    f"{100 * both['pathway'][0]['guess']:.0f}",
                )
            )
    head = (
        "question",
        "attends to",
        "pathway (%)",
        "no pathway (%)",
        "lead (points)",
        "predicted",
        "came out",
        "guess",
    )
    return _section(
        "The language pathway over objects",
        "xattn reproduce objects --seeds 10",
        f"LAVT over the objects of a scene, with the language pathway and without it: {runs[0]['train_questions']:,} "
        f"questions, {runs[0]['steps']:,} steps ({_seeds(runs)}; right answers in %; leads are paired by seed). The "
        "predictions are in `xattn_edu/experiments/objects.py`. *Open*: the interval holds the predicted bound.",
        _table(head, rows),
    )


def _finer(folder: Path) -> str:
    runs, coarse = _runs("lavt-finer", folder), _runs("lavt", folder)
    both, alone = _where(runs, model="lavt"), _where(runs, model="lavt_pwam")
    lead, shut = _lead(both, alone), _where(_runs("lavt-recipe", folder), change="finer_and_shut")
    came_out = "open as well" if lead.low <= 0 <= lead.high else "not open"
    lost = sum(score < _scores(alone)[seed] for seed, score in _scores(shut).items())
    in_seeds = "in each seed" if lost == len(shut) else f"in {lost} of {len(shut)} seeds"
    return _section(
        "LAVT in a finer model",
        "xattn reproduce lavt-finer --seeds 5",
        f"Here {_blocks(both)} blocks come after the first gate instead of {_blocks(coarse)}. LAVT against PWAM alone "
        f"is {came_out}, {lead:.1f} points after the same steps. By seed LAVT has an mIoU of {_range(both)}, "
        f"PWAM alone of {_range(alone)}.",
        f"LAVT with gates that start shut is behind PWAM alone {in_seeds}:",
        "`xattn reproduce lavt-recipe --change finer_and_shut --seeds 5`",
    )


def _words(folder: Path) -> str:
    own = _where(_runs("lavt", folder), model="lavt")
    frozen = _runs("lavt-words", folder)
    tests = {"all test scenes": "mIoU", **_TESTS_OF_WORDS}
    return _section(
        "Words that LAVT learned, and MiniLM's",
        "xattn reproduce lavt-words --seeds 5",
        f"LAVT's own words, learned with the task, against those of MiniLM, which stay frozen ({_seeds(frozen)}; mIoU "
        "in %).",
        _table(
            ("tested on", "own words", "MiniLM's"),
            [(name, _percent(own, score), _percent(frozen, score)) for name, score in tests.items()],
        ),
    )


def _longer(folder: Path) -> str:
    (run,) = _where(_runs("lavt", folder, "cpu"), model="lavt", seed=0)
    return _section(
        "One longer run of LAVT",
        "xattn reproduce lavt --profile cpu --seeds 1 --model lavt",
        f"A finer and deeper LAVT (patches of {run['patch']} pixels, {len(run['depths'])} stages; profile `cpu`, one "
        f"seed, {run['seconds'] / 60:.0f} minutes on two cores) has an mIoU of {run['mIoU']:.3f}, and "
        f"{run['mIoU exchanged']:.3f} with another scene's sentence. The course had set itself 0.75, so this falls "
        "short.",
    )


def _crossvit_costs(folder: Path) -> str:
    record = _benchmark("crossvit", folder)
    timm, deit = record["inference"]["rows"]["timm"], record["inference"]["rows"]["timm's DeiT-S"]
    memory = {
        mode: record["memory"]["ours"][mode] / record["memory"]["timm"][mode] for mode in ("inference", "training")
    }
    return _section(
        "What CrossViT costs",
        "xattn tables crossvit",
        "The command counts every model of CrossViT's tables 2, 3, 6 and 7 that the library has, and compares with "
        "the printed numbers. All FLOPs of tables 2, 6 and 7 are equal, and all parameters but two: one is open, the "
        "other only truncation would explain. Table 3 prints ViT-B@384 with the cost of 224 pixels.",
        f"CrossViT-S at batch {record['inference']['batch']} runs on two CPU cores at {1 / timm['relative']:.2f} times "
        f"the speed of timm's (median of 9 rounds in turns, {1 / timm['high']:.2f} to {1 / timm['low']:.2f}) and "
        f"{1 / deit['relative']:.2f} times that of timm's DeiT-S, with {memory['inference']:.2f} of timm's peak "
        f"memory. A training step runs at {1 / record['training']['rows']['timm']['relative']:.2f} times timm's speed "
        f"and {memory['training']:.2f} of its memory (`make benchmark` after `make parity`).",
    )


def _speed(folder: Path) -> str:
    decoding, attention = _benchmark("decoding", folder)["whole"], _benchmark("attention", folder)
    lavt, scenes = _benchmark("lavt", folder), _benchmark("scenes", folder)["scenes"]
    large, step = lavt["large"], lavt["reduced"]["step"]
    drawn = {r["size"]: r["scenes_per_second"] for r in scenes if (r["objects"], r["language"]) == ("emoji", "english")}
    loading = 100 * (step["drawing"] + step["batch"]) / sum(step.values())
    return _section(
        "Speed and memory",
        "make benchmark",
        f"Decoding {decoding['batch']} sequences of {decoding['length']} tokens is {decoding['ratio']:.1f} times "
        "faster with cached keys and values than without.",
        f"A ViT-S at batch 16 runs at a share of {attention['vit_small']['share']:.2f} of the speed of a large matrix "
        f"product. LAVT with Swin-B runs, on one image of {large['size']} pixels, at a share of {large['share']:.2f}, "
        f"with {large['peak_bytes'] / 2**20:.0f} MiB at its peak above the {4 * large['parameters'] / 2**20:.0f} of "
        "its weights.",
        f"Scenes are drawn on one core at {round(drawn[64], -2):,.0f} scenes a second of 64 pixels and "
        f"{round(drawn[96], -2):,.0f} of 96. Drawing scenes and making batches is {loading:.1f} % of a training step "
        "of the small LAVT.",
    )


_SECTIONS: list[Callable[[Path], str]] = [
    _vit,
    _mixers,
    _translation,
    _fusions,
    _crossvit_costs,
    _referring,
    _objects,
    _lavt,
    _finer,
    _words,
    _longer,
    _speed,
]


def _runs(name: str, folder: Path, profile: str = "ci") -> list[Run]:
    """The stored runs of an experiment with one profile."""
    runs = _where(load_results(name, folder), profile=profile)
    if not runs:
        command = f"xattn reproduce {name} --profile {profile}"
        raise FileNotFoundError(f"no results of {name!r} with profile {profile} in {folder}: run `{command}`")
    return runs


def _where(runs: Iterable[Run], **settings: Any) -> list[Run]:
    """The runs with these settings."""
    return [run for run in runs if all(run[name] == value for name, value in settings.items())]


def _interval(runs: Sequence[Run], score: str = "test_accuracy") -> Interval:
    """Mean and interval of a share (0 to 1), in %."""
    return mean_interval(100 * run[score] for run in runs)


def _percent(runs: Sequence[Run], score: str = "test_accuracy") -> str:
    return f"{_interval(runs, score):.1f}"


def _scores(runs: Sequence[Run], score: str = "mIoU") -> dict[int, float]:
    """{seed: the score in %}."""
    return {run["seed"]: 100 * run[score] for run in runs}


def _lead(ahead: Sequence[Run], behind: Sequence[Run], score: str = "mIoU") -> Interval:
    """Mean and interval of the differences in a score between runs of the same seed, in points."""
    first, second = _scores(ahead, score), _scores(behind, score)
    return mean_interval(first[seed] - second[seed] for seed in first.keys() & second.keys())


def _range(runs: Sequence[Run]) -> str:
    values = _scores(runs).values()
    return f"{min(values):.0f} to {max(values):.0f} %"


def _blocks(runs: Sequence[Run]) -> int:
    """The number of blocks behind the first stage, where the first gate is."""
    return sum(runs[0]["depths"][1:])


def _seeds(runs: Sequence[Run]) -> str:
    count = len({run["seed"] for run in runs})
    return _COUNT_WORDS.get(count, f"{count} seeds")


def _benchmark(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "benchmarks" / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"no benchmark {path}: run `make benchmark`")
    return json.loads(path.read_text(encoding="utf-8"))


def _section(title: str, command: str, *parts: str) -> str:
    return _text(f"## {title}", f"`{command}`", *parts)


def _text(*parts: str) -> str:
    """Paragraphs, filled, and tables, as they are, with one empty line between them."""
    filled = (part if part.startswith("|") else textwrap.fill(part, 118, **_FILL) for part in parts)
    return "\n\n".join(filled) + "\n"


_FILL: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)
