"""What a type checker tells users of the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mypy import api

CASES = Path(__file__).parents[1] / "support" / "typing_cases.py"
# Tensors stay unknown to the checker: to read torch takes it minutes, and no case is about them.
CONFIG = """
[mypy]
ignore_missing_imports = true
disable_error_code = name-defined, syntax
follow_imports = silent
no_error_summary = true
[mypy-torch.*,transformers.*,safetensors.*,huggingface_hub.*,tokenizers.*]
follow_imports = skip
"""


def test_uses_have_their_types_and_misuses_are_errors(tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    output, problem, _ = api.run(
        ["--config-file", str(config), "--cache-dir", str(tmp_path), "--python-executable", sys.executable, str(CASES)]
    )
    assert not problem
    told: dict[int, list[str]] = {}
    for line in output.splitlines():
        match = re.match(r".*typing_cases\.py:(\d+): (?:note|error): (.*)", line)
        if match:
            told.setdefault(int(match[1]), []).append(match[2])
    lines = CASES.read_text(encoding="utf-8").splitlines()
    checked = 0
    for number, line in enumerate(lines, start=1):
        messages = " ".join(told.pop(number, []))
        _, reveals, kind = line.partition("# reveals ")
        _, wrong, code = line.partition("# wrong ")
        if reveals and "reveal_type" in line:
            assert f'Revealed type is "{kind}"' in messages, (number, line, messages)
        elif wrong and "`" not in line:
            assert f"[{code}]" in messages, (number, line, messages)
        else:
            assert not messages, (number, line, messages)
            continue
        checked += 1
    assert not told
    assert checked == 27
