"""Weight sync: brings each version of the learner's weights to the engines and verifies it there.

    learner.logprobs(texts) -> learner.publish(file) -> checksum -> engines.publish(file, checksum)
                                                                 -> canary requests, in the background

Published weights count as verified once every engine has answered the canary like the learner.
"""

import asyncio
import time
from collections.abc import Sequence

from data.ledger.ledger import Ledger
from rl.controller.agreement import Agreement
from rl.controller.canary import Examiner, verify
from rl.controller.seams import Engines, Learner
from rl.scored_group import ScoredGroup


class Publisher:
    """Publishes one version after the other."""

    def __init__(
        self,
        engines: Engines,
        learner: Learner,
        ledger: Ledger,
        *,
        stage_name: str,
        max_length: int,
        dtype: str,
    ) -> None:
        """`max_length`: longest context plus output of an engine (tokens); `dtype`: its number format."""
        self._engines, self._learner, self._ledger = engines, learner, ledger
        self._stage_name = stage_name
        self._examiner = Examiner(learner, dtype=dtype, max_length=max_length)
        self._canary: asyncio.Future[Agreement | None] | None = None
        """Verification of the version published last."""

    async def publish(self, version: int, trained: Sequence[ScoredGroup] = ()) -> dict[str, float]:
        """Verify the previous version, then bring the learner's weights to all engines. -> time metrics.

        The canary's texts are calls in `trained`; until any were trained, a version goes unverified.
        Raises PublishError when an engine has other weights than the learner.
        """
        agreement = await self.verified()
        canary = await self._examiner.prepare(version, trained)
        began = time.monotonic()
        path = self._engines.new_file()
        checksum = await self._learner.publish(path)
        written = time.monotonic()
        reports = await self._engines.publish(path, version, checksum)
        sent = time.monotonic()
        # No report when every engine died meanwhile: their replacements started with these weights.
        pause_s = max((report.pause_s for report in reports), default=0.0)
        num_bytes = max((report.bytes for report in reports), default=0)
        self._ledger.published(
            self._stage_name, version, seconds=sent - began, num_bytes=num_bytes, pause_s=pause_s
        )
        if canary is not None:
            self._canary = asyncio.ensure_future(verify(canary, self._engines))
            # Retrieve the exception: asyncio prints a traceback when the stage ends for another reason.
            self._canary.add_done_callback(lambda future: future.cancelled() or future.exception())
        found = {} if agreement is None else {"canary/rms": agreement.rms, "canary/limit": agreement.limit}
        return {
            **found,
            "time/publish_write_s": written - began,
            "time/publish_send_s": sent - written,
            "time/publish_pause_s": pause_s,
            "time/publish_gb_per_s": num_bytes / 1e9 / (sent - began),
        }

    async def verified(self) -> Agreement | None:
        """Wait until the engines have answered the last canary. -> the worst agreement, None without answers.
        Raises PublishError when one disagrees.
        """
        return None if self._canary is None else await self._canary

    def cancel(self) -> None:
        """Cancel the verification that is still running."""
        if self._canary is not None:
            self._canary.cancel()
