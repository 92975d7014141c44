"""Shared set-up: no network, shapes checked at run time, one source of randomness a test."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

# Every annotated function and dataclass of the package checks its shapes while the tests run.
install_import_hook("refseg", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

pytest.register_assert_rewrite("tests.support.contract")

# Tensors are tiny here: a second thread would only wait for the first. REFSEG_TEST_THREADS=2 shows what depends on it.
torch.set_num_threads(int(os.environ.get("REFSEG_TEST_THREADS", "1")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="random numbers of the tests; none may pass by its seed")


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """The same random numbers in every run, whichever tests run."""
    torch.manual_seed(request.config.getoption("--seed"))
