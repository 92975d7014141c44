"""`instances` keeps to what every system keeps to, as far as a system can whose detector is not trained with it."""

from __future__ import annotations

from typing import Any, ClassVar

from refseg.encoders.text.tokenizer import ByteTokenizer, Tokenizer
from refseg.models import build
from refseg.models.instances.config import InstancesConfig
from tests.support.contract import ModelContract, leaf_fields
from tests.support.tiny_systems import tiny_instances as tiny

CONFIG = tiny(InstancesConfig())


class TestInstances(ModelContract):
    """Without MiniLM, which has tests of its own: expressions here hold words of the lists."""

    config = CONFIG
    unreached = frozenset(f"proposer.{name}" for name, _ in build(CONFIG).proposer.named_parameters())
    per_expression = frozenset({"boxes"})
    inactive: ClassVar[dict[str, str]] = {
        name: "tested with the detector, in test_proposals"
        for name in leaf_fields(CONFIG)
        if name.startswith("detector.")
    } | {"fine_masks": "takes a second; tested with the masks", "text": "tested with the words"}
    changes: ClassVar[dict[str, Any]] = {"max_masks": 1, "losses.anchor": 5.0}

    def tokenizer(self) -> Tokenizer:
        return ByteTokenizer()

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width
