"""The README's code runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_five_lines_run(capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["output"].shape == (2, 196, 64) and names["weights"].shape == (2, 4, 196, 7)
    assert "4,598,882,304" in capsys.readouterr().out
