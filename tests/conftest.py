"""Shared set-up: no network, shapes checked at run time, one source of randomness a test."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

# Every annotated function and dataclass of the package checks its shapes while the tests run.
install_import_hook("refseg", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # tensors are tiny here: a second thread would only wait for the first


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every run, whichever tests run."""
    torch.manual_seed(0)
