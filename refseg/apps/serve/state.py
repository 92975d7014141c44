"""What all routes share: the models, the engine, the pictures that are kept."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from refseg.apps.serve.engine import AskJob, EncodeJob, Engine, SegmentJob, Thresholds
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.metrics import Metrics
from refseg.apps.serve.pictures import Budget, Share, decode_picture
from refseg.apps.serve.settings import MB, Settings
from refseg.apps.serve.store import ID, Kept, Store
from refseg.errors import RefsegError, did_you_mean

if TYPE_CHECKING:
    from PIL import Image

    from refseg.apps.serve.searching import Searcher
    from refseg.inference.predictor import EncodedImage, Segmenter
    from refseg.inference.segmentation import Segmentation

LOGGER = logging.getLogger("refseg.serve")
Result = TypeVar("Result")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class State:
    """The state of one application; `state_of(request)` finds it."""

    def __init__(self, settings: Settings, segmenters: Mapping[str, Segmenter] | None = None) -> None:
        self.settings = settings
        self.keys = settings.keys()
        self.metrics = Metrics()
        self.engine = Engine(settings.max_batch, settings.queue, settings.max_wait, self.metrics)
        self.budget = Budget(settings.request_memory * MB, self.metrics)
        spool = Path(settings.spool) if settings.spool else None
        self.store = Store(
            settings.cache_memory * MB, settings.cache_seconds, self.metrics, spool, settings.spool_memory * MB
        )
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="refseg pictures")
        """Decodes pictures and encodes masks, beside the engine's thread."""
        self.segmenters: dict[str, Segmenter] = dict(segmenters or {})
        self.searcher: Searcher | None = None
        self.ready = bool(segmenters)
        self.failure = ""
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    @property
    def model_names(self) -> tuple[str, ...]:
        """The first one is the default."""
        return tuple(self.segmenters) if self.ready else self.settings.model_names

    def load(self) -> None:
        """Load the models and the index, in a thread: the server says meanwhile that it is not ready."""

        def work() -> None:
            try:
                self.segmenters = self.segmenters or load_segmenters(self.settings)
                if self.settings.index:
                    from refseg.apps.serve.searching import Searcher

                    self.searcher = Searcher(self.settings.index)
                self.ready = True
            except Exception as error:
                self.failure = " ".join(str(error).split()) if isinstance(error, RefsegError) else "loading failed"
                LOGGER.exception("the models cannot be loaded")

        threading.Thread(target=work, name="refseg loading", daemon=True).start()

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        self.engine.stop()
        self.pool.shutdown()

    def check_ready(self) -> None:
        """Raises `ServeError` (503) before the models are loaded."""
        if not self.ready:
            raise ServeError("not_ready", self.failure or "the models are being loaded", seconds=5)

    def model_name(self, name: str | None) -> str:
        """The name itself, or that of the first model. Raises `ServeError` for a model that is not served."""
        self.check_ready()
        chosen = name or next(iter(self.segmenters))
        if chosen not in self.segmenters:
            raise ServeError("invalid", f"model {chosen!r} is not served; {did_you_mean(chosen, self.model_names)}")
        return chosen

    async def in_pool(self, work: Callable[..., Result], *values: object) -> Result:
        """The result of a function that is called in the pool of threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *values)

    async def decode(self, data: bytes, share: Share) -> Image.Image:
        """The picture in `data`; raises `ServeError` as `decode_picture` does."""
        return await self.in_pool(decode_picture, data, self.settings.max_pixels, share)

    async def segment(
        self, request: Request, picture: Image.Image, texts: Sequence[str], model: str, thresholds: Thresholds
    ) -> list[Segmentation]:
        """The answers about a picture that is not kept."""
        job = SegmentJob.of(self.segmenters[model], picture, texts, thresholds, self.settings.max_batch)
        return await self.wait(request, self.engine.submit(job))

    async def ask(
        self, request: Request, kept: Kept, texts: Sequence[str], model: str, thresholds: Thresholds
    ) -> list[Segmentation]:
        """The answers about a picture that is kept."""
        encoded = await self.encoded(request, kept, model)
        job = AskJob.of(encoded, texts, thresholds, self.settings.max_batch)
        answers = await self.wait(request, self.engine.submit(job))
        self.store.measure(kept)
        return answers

    async def encoded(self, request: Request, kept: Kept, model: str) -> EncodedImage:
        """The picture as this model encodes it: once, however many ask at the same time."""
        if model not in kept.encoded:
            lock = self._locks.setdefault((kept.id, model), asyncio.Lock())
            try:
                async with lock:
                    if model not in kept.encoded:
                        job = EncodeJob.of(self.segmenters[model], kept.picture)
                        kept.encoded[model] = await self.wait(request, self.engine.submit(job))
                        self.store.measure(kept)
            finally:
                self._locks.pop((kept.id, model), None)
        return kept.encoded[model]

    async def kept(self, id: str, share: Share) -> Kept:
        """The picture of that id. Raises `ServeError` (404) where it is not, or no longer, kept."""
        kept = self.store.get(id) if ID.fullmatch(id) else None
        if kept is None:
            data = await self.in_pool(self.store.spooled, id)
            if data is None:
                raise ServeError("not_found", "there is no such picture, or it was forgotten; send it again")
            kept = self.store.add(await self.decode(data, share), id=id)
        return kept

    async def wait(self, request: Request, future: Future[Result]) -> Result:
        """The result of a job. Where the client leaves meanwhile, the job is cancelled and `ClientLeft` raised."""
        computed = asyncio.wrap_future(future)
        left = asyncio.ensure_future(_left(request))
        try:
            both: set[asyncio.Future[Any]] = {computed, left}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not computed.done():
                raise ClientLeft
            return computed.result()
        finally:
            left.cancel()
            computed.cancel()


def state_of(request: Request) -> State:
    """The state of the application that answers the request."""
    state = request.app.state.serve
    assert isinstance(state, State)
    return state


def share_of(request: Request) -> Share:
    """The memory that the request has taken."""
    share = request.state.share
    assert isinstance(share, Share)
    return share


def load_segmenters(settings: Settings) -> dict[str, Segmenter]:
    """The models by name. Raises `CheckpointError` for one that is not there, or damaged."""
    import torch

    from refseg.inference.predictor import load

    if settings.threads:
        torch.set_num_threads(settings.threads)
    precision = "bfloat16" if settings.precision == "bfloat16" else "float32"
    return {
        name: load(model, settings.device, precision)  # type: ignore[arg-type]
        for name, model in zip(settings.model_names, settings.models, strict=True)
    }


async def _left(request: Request) -> None:
    """Return when the client has closed the connection; the body has been read by now."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
