"""The episodes of a server: admission, seeds, figures, and an engine that may die.

    request  -> parse, look the model up, check that its prompt fits      400, 404
             -> room for its episodes, else "come back later"             429
             -> one `Served`, whose episodes run on the host
             -> figures, whether its client has waited or not

An engine that dies is replaced by the host, and its calls are sampled again. When one after the other dies,
the episodes in flight fail (503), and the service starts a new host, again and again, ever more seldom.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from data.errors import BraidError, ConfigError
from data.text.codec import Codec
from data.text.prompt import Prompt
from rl.serving.api_error import ApiError, invalid, unavailable
from rl.serving.asked import Asked
from rl.serving.catalogue import Catalogue, adjusted
from rl.serving.metrics import Metrics
from rl.serving.served import Served
from rollout.host import EpisodeHost
from rollout.opening import opening_tokens
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.seeds import episode_seed

LONG_TEXT = 20_000
"""Characters of a prompt that are counted in a thread before they are laid out."""
LONGEST_WAIT_S = 60.0
"""Most seconds between two starts of a host, and of a `retry-after`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A request that can be served."""

    asked: Asked
    model: str
    params: AnyParams
    prompt_tokens: int
    """Tokens that its prompts begin episodes with; the longest beginning where there are several."""


class Service:
    """Serves requests on one host, and replaces the host when its engines die one after the other."""

    def __init__(
        self,
        start_host: Callable[[], Awaitable[EpisodeHost]],
        catalogue: Catalogue,
        codec: Codec,
        *,
        max_length: int,
        most_episodes: int,
    ) -> None:
        """`most_episodes`: episodes that may run or wait at once."""
        self.catalogue, self.codec, self.max_length = catalogue, codec, max_length
        self.metrics = Metrics()
        self.draining = False
        """Whether no further request is taken."""
        self._start_host, self._most = start_host, most_episodes
        self._host: EpisodeHost | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._in_progress = 0
        self._live: set[Served] = set()
        self._mean_s = 1.0
        """Running mean of an episode's seconds."""
        vocabulary = codec.tokenizer.get_vocab()
        self._longest_token = 1 + max(map(len, vocabulary), default=1)

    async def start(self) -> None:
        """Start the first host. Raises ConfigError or EngineError when it does not start."""
        self._host = await self._start_host()

    @property
    def host(self) -> EpisodeHost:
        """The host. Raises ApiError (503) while there is none."""
        if self._host is None:
            raise unavailable("The engine is being restarted.", retry_after=5)
        return self._host

    @property
    def ready(self) -> bool:
        """Whether requests are taken and there is an engine for them."""
        return self._host is not None and not self.draining

    @property
    def in_progress(self) -> int:
        """Episodes that run or wait."""
        return self._in_progress

    async def plan(self, asked: Asked) -> Planned:
        """Raises ApiError for a request that cannot be served."""
        fields = asked.fields
        params = adjusted(
            self.catalogue.params(fields.model, fields.braid.protocol),
            effort=fields.reasoning_effort,
            settings=fields.braid.settings,
            budgets=fields.braid.budgets,
            total_tokens=asked.total_tokens,
        )
        tokens = [await self._opening(params, prompt, asked) for prompt in asked.prompts]
        return Planned(asked=asked, model=fields.model, params=params, prompt_tokens=sum(tokens))

    async def _opening(self, params: AnyParams, prompt: Prompt, asked: Asked) -> int:
        """Tokens that an episode of this prompt begins with. Raises ApiError when that is no call."""
        where = "messages" if asked.endpoint == "chat" else "prompt"
        texts = [prompt.text, *(message.content for message in prompt.history)]
        least = sum(map(len, texts)) // self._longest_token
        try:
            if self.max_length > least and sum(map(len, texts)) > LONG_TEXT:
                # In a thread: a long text must not hold up the others.
                counts = [len(await asyncio.to_thread(self.codec.encode, text)) for text in texts]
                least = sum(counts)
            if least < self.max_length:
                least = opening_tokens(self.host.protocol(params), prompt)
        except ConfigError as error:
            # Without the tokenizer's name, which is a path of this machine.
            reason = str(error).removeprefix(f"{self.codec.name}: ")[:500]
            raise invalid(
                where, f"The prompt cannot be put to the model: {reason}", "invalid_prompt"
            ) from None
        if least >= self.max_length:
            raise invalid(
                where,
                f"This model's maximum context length is {self.max_length} tokens. However, your request has "
                f"at least {least} tokens before anything is sampled. Please shorten it.",
                "context_length_exceeded",
            )
        return least

    @asynccontextmanager
    async def serve(self, planned: Planned, *, tokens: bool) -> AsyncIterator[Served]:
        """A request's episodes, started. `tokens`: their tokens are told step by step. Whatever the caller
        does, they have ended and are counted when the context does.

        Raises ApiError: no room now (429), stopping or without an engine (503).
        """
        asked = planned.asked
        count = len(asked.prompts) * asked.fields.n
        self.ensure_room(planned)
        served = Served(
            id=f"{'chatcmpl' if asked.endpoint == 'chat' else 'cmpl'}-{secrets.token_hex(12)}",
            model=planned.model,
            asked=asked,
            params=planned.params,
            codec=self.codec,
        )
        host = self.host
        self._in_progress += count
        self._live.add(served)
        try:
            served.start(host, _specs(served.id, asked), tokens=tokens or bool(asked.stops))
            yield served
        except BraidError as error:
            self._replace(host, error)
            raise unavailable(f"The engine failed ({error}).", retry_after=self._retry_after()) from error
        finally:
            await served.abandon()
            self._live.discard(served)
            self._in_progress -= count
            self._count(served)

    def stop_all(self) -> None:
        """Cancel every episode; requests end with what there is."""
        for served in self._live:
            served.stop()

    async def close(self) -> None:
        """End the engine, and take no more requests."""
        self.draining = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.gather(self._reviving, return_exceptions=True)
        if self._host is not None:
            self._host.shutdown()

    def measure(self) -> bytes:
        """All figures, as Prometheus reads them."""
        if self._host is not None:
            live, waiting = self._host.occupancy
            self.metrics.live.set(live)
            self.metrics.waiting.set(waiting)
            self.metrics.deaths.set(self._host.deaths)
        return self.metrics.text()

    def ensure_room(self, planned: Planned) -> None:
        """Raises ApiError when there is no room for a request's episodes now (429), or never (400)."""
        count = len(planned.asked.prompts) * planned.asked.fields.n
        if self.draining:
            raise unavailable("The server is stopping.", retry_after=5)
        if count > self._most:
            raise invalid("n", f"{count} episodes are more than this server runs at once ({self._most}).")
        if self._in_progress + count > self._most:
            raise ApiError(
                429,
                f"{self._in_progress} of {self._most} episodes are in progress; this request has {count}.",
                code="rate_limit_exceeded",
                retry_after=self._retry_after(),
            )

    def _retry_after(self) -> int:
        """Seconds that an episode takes at present, as a guess at when there is room."""
        return round(min(LONGEST_WAIT_S, max(1.0, self._mean_s)))

    def _count(self, served: Served) -> None:
        seconds = time.monotonic() - served.begun
        for choice in served.choices:
            if choice.first_token_s is not None:
                self.metrics.first_token.observe(choice.first_token_s)
            if choice.episode is not None:
                self._mean_s += 0.1 * (seconds - self._mean_s)
                self.metrics.add_episode(choice.episode, seconds)
        for steps in served.cancel_steps():
            self.metrics.add_cancelled(steps)
        if served.given_up:
            self.metrics.gone.inc()

    def _replace(self, failed: EpisodeHost, error: Exception) -> None:
        """Start another host in place of one whose engines died one after the other."""
        if self._host is not failed or not failed.dead or self.draining:
            return
        print(f"serve: {error}; the engine is started anew", flush=True)
        self._host = None
        failed.shutdown()
        self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        wait = 1.0
        while self._host is None:
            try:
                self._host = await self._start_host()
            except BraidError as error:
                print(f"serve: the engine did not start ({error}); next try in {wait:.0f} s", flush=True)
                await asyncio.sleep(wait)
                wait = min(LONGEST_WAIT_S, 2 * wait)


def _specs(request: str, asked: Asked) -> list[EpisodeSpec]:
    """[P x n] one episode for each prompt and choice, in the order of the reply's choices. Sample i of prompt
    g has the seed that an evaluation gives sample i of its problem g.
    """
    fields = asked.fields
    specs = []
    for number, prompt in enumerate(asked.prompts):
        for choice in range(fields.n):
            group, sample = fields.braid.group + number, fields.braid.sample + choice
            specs.append(
                EpisodeSpec(
                    id=f"{request}/{number * fields.n + choice}",
                    prompt=prompt,
                    temperature=fields.temperature,
                    seed=episode_seed(asked.seed, group, sample),
                )
            )
    return specs
