"""What the annotation game needs of the package's requirements: all but torch and what only models use.

python deploy/annotate/requirements.py pyproject.toml > needed.txt
pip install -r needed.txt && pip install --no-deps refseg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODELS = {"torch", "transformers", "safetensors", "huggingface_hub"}
"""What only models use: the game never imports them, only the process that proposes masks does."""


def needed(pyproject: Path) -> list[str]:
    """The requirements of the package and of its extra `annotate`, without `MODELS`."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["annotate"]]
    names = [re.match(r"[A-Za-z0-9_.-]+", line) for line in listed]
    return [line for line, name in zip(listed, names, strict=True) if name is not None and name[0] not in MODELS]


if __name__ == "__main__":
    print("\n".join(needed(Path(sys.argv[1]))))
