"""The README's code runs as it stands there, and its numbers are those of results/."""

import json
import re
from pathlib import Path

from xattn_edu.experiments import load_results
from xattn_edu.metrics import mean_interval

README = Path(__file__).parents[1] / "README.md"


def test_five_lines_run(capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["output"].shape == (2, 196, 64) and names["weights"].shape == (2, 4, 196, 7)
    assert "4,598,882,304" in capsys.readouterr().out


def test_accuracies_are_those_in_results() -> None:
    runs = load_results("vit-fashion-mnist")
    for patch in (4, 7, 14):
        interval = mean_interval(100 * run["test_accuracy"] for run in runs if run["patch"] == patch)
        assert f"| patch {patch} | {interval:.1f} |" in README.read_text(encoding="utf-8")


def test_the_benchmark_is_the_one_stored() -> None:
    record = json.loads((README.parent / "results" / "benchmarks" / "attention.json").read_text(encoding="utf-8"))
    assert f"a share of {record['vit_small']['share']:.2f}" in README.read_text(encoding="utf-8")
