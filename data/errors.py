"""Errors a user can meet. Every message names what was wrong, where (file, key), and what to do."""


class BraidError(Exception):
    """Base of every error that Braid raises on purpose."""


class ConfigError(BraidError, ValueError):
    """A recipe, data file, model or command line that cannot work. The command line exits with code 2."""


class TrajectoryError(BraidError, ValueError):
    """An episode that breaks an invariant of the call DAG, or a record in an unknown format."""


class EngineError(BraidError, RuntimeError):
    """The inference engine died or refused a request; every request in flight fails with it."""


class RewardError(BraidError, RuntimeError):
    """Reward workers die again and again, so nothing can be scored."""


class StorageError(BraidError, RuntimeError):
    """A file of a run could not be written (a full disk, most likely) or read back (truncated, damaged)."""


class PublishError(BraidError, RuntimeError):
    """New weights did not reach an engine whole: checksum, canary or transfer failed."""


class NonFiniteError(BraidError, ArithmeticError):
    """Loss, gradients or weights hold NaN or infinity, so training cannot go on from them."""


class StalledRun(BraidError, RuntimeError):
    """A training run that cannot learn, and was ended by the recipe's `health` section. It can be resumed."""
