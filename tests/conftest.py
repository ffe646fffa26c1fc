"""Fixtures for every test: `no_leftovers` where processes start, `tiny_model_dir` where a model is needed."""

import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from filelock import FileLock

from tests.support.browser_lab import HOW, MISSING

# Before anything imports torch or transformers. One thread: two cores are shared by engine, learner and test
# workers, and sums are then added in the same order every time. Offline: no test may depend on a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

# A shell ignores Ctrl-C for what it starts in the background, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases on every machine and day: a red test is then red for the change at hand. Each change that
# touches a strategy brings others; `HYPOTHESIS_PROFILE=explore` draws new ones every time.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

pytest_plugins = ("pytester",)  # test_house runs a small test session of its own
SEED = 20_240
_ROOT = Path(__file__).parents[1]
_MARK = "BRAID_TEST_MARK"
_SHARED_RUN_SECONDS = 1200.0
"""Limit of a test that looks at a run which tests share."""
_GRACE_SECONDS = 20.0
"""Ray's own processes see their driver gone and end themselves; an engine does within 8 s."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests, and refuse one that asks for a fixture which it cannot see.

    Files of long tests first: with several workers, none of them is left alone with one at the end. A test
    that is seldom run would say only then that its fixture is missing; every session looks at all of them.
    """
    if blind := [
        f"{item.nodeid}: {', '.join(names)}" for item in items if (names := _unknown_fixtures(item))
    ]:
        raise pytest.UsageError("fixtures that no conftest on the way gives:\n  " + "\n  ".join(blind))

    def limit(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0.0

    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0.0), limit(item))
    items.sort(key=lambda item: -longest[item.path])
    for item in items:
        # Any of them may be the one that makes the run or waits for it.
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(max(limit(item), _SHARED_RUN_SECONDS)), append=False)


def _unknown_fixtures(item: pytest.Item) -> list[str]:
    info = getattr(item, "_fixtureinfo", None)  # pytest has no public way to ask
    if info is None:
        return []
    given = {"request", *info.name2fixturedefs, *getattr(getattr(item, "callspec", None), "params", ())}
    return [name for name in info.names_closure if name not in given]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out for want of a browser, and how to get one."""
    if any(MISSING in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(HOW)


@pytest.fixture
def seed() -> int:
    """The seed of tests that need any seed."""
    return SEED


@pytest.fixture
def rng() -> random.Random:
    """A generator of its own for each test."""
    return random.Random(SEED)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Where a run of this test may write; it exists and is empty."""
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: random Qwen3, 2 layers of width 64, tied embeddings, < 0.1M weights, float32.

    Its tokenizer knows every word of Countdown and the tags of all protocols. The weights are far from zero
    on purpose (std 0.3): with the usual 0.02 every distribution is nearly uniform, and a test that compares
    log-probabilities could not tell two models apart.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from data.tasks.registry import TASKS
    from data.text.build_words import build_tokenizer
    from rollout.protocols import PROTOCOLS, default_params, vocabulary

    task = TASKS["countdown"]
    vocabularies = [vocabulary(default_params(name)) for name in PROTOCOLS]
    spoken = [word for tags, words in vocabularies for word in (*tags, *words)]
    words = [*task(task.Params()).words(), *spoken]
    tokenizer = build_tokenizer(words, numbers=99, digits=False)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Qwen3ForCausalLM(config)
    path = tmp_path_factory.mktemp("tiny_model")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_scorer(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model: `tiny_model_dir` with a random head."""
    import torch

    from rl.learner.scorer_model import load_scorer

    model, generator = load_scorer(tiny_model_dir), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("tiny_scorer")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face directory: made by the first test that needs it, then kept."""
    path = _ROOT / "models" / "SmolLM2-135M-Instruct"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.parent / ".lock"):
        if not (path / "model.safetensors").exists():
            subprocess.run([sys.executable, str(_ROOT / "scripts" / "make_smollm2.py")], check=True)
    return path


@pytest.fixture
def no_leftovers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test when a process that it started is still there shortly after, and ends it by its id.

    Descendants are known by their parent, or, if it has died, by a mark in the environment they inherited.
    """
    mark = uuid.uuid4().hex
    monkeypatch.setenv(_MARK, mark)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    left = [process for process in _started(mark) if process.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=_GRACE_SECONDS)
    names = [_describe(process) for process in alive]
    for process in alive:
        _end(process)
    if names:
        pytest.fail("processes left behind: " + "; ".join(names))


def _started(mark: str) -> list[psutil.Process]:
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_MARK) == mark:
                found[process.pid] = process
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return [process for process in found.values() if not _serves_this_process(process)]


def _serves_this_process(process: psutil.Process) -> bool:
    """Python's own helper of multiprocessing lives, by design, until the test process ends."""
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return True


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.NoSuchProcess:
        return str(process.pid)


def _end(process: psutil.Process) -> None:
    try:
        process.terminate()
        process.wait(3)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        pass
