"""Trainings for tests: `braid` commands in processes of their own, so that no two Ray sessions ever meet.

Each command carries a mark in its environment, which everything it starts inherits: that is how a test sees
that nothing was left behind, also after its driver was killed.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from data.stacks import STACK_SIGNAL, stack_file
from data.tasks.parts import Parts, PartsParams
from rl.config import load_recipe
from tests.support.preference_lab import write_preferences
from tests.support.qwen_lab import published_searches
from tests.support.recipe_lab import TINY
from tests.support.sockets import Listening, listening
from tests.support.tokenizer_lab import CORPUS

_MARK = "BRAID_TEST_COMMAND"
_RECIPES = Path(__file__).parents[2] / "recipes"
_SECONDS = 900.0
_SOCKETS_S = 3.0
RANKS_AND_ADAPTERS = ("rl.num_ranks=2", "rl.lora={rank: 8, alpha: 16.0}")


@dataclass(kw_only=True)
class Command:
    """A running `braid`."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    seen: set[psutil.Process] = field(default_factory=set)
    """Its descendants. Some overwrite their environment, and with it the mark, to show another name."""
    sockets: set[Listening] = field(default_factory=set)
    """Every socket on which it or a descendant listened."""
    looked_at_sockets: float = -math.inf

    @property
    def output(self) -> str:
        """What it has printed so far, both streams."""
        return self.log.read_text()

    def wait_until(self, happened: Callable[[], bool], seconds: float = _SECONDS) -> None:
        """Fails when it ends, or the time is up, before something has happened."""
        deadline = time.monotonic() + seconds
        look = 0.0
        while not happened():
            assert self.process.poll() is None, f"ended too early ({self.process.returncode}):\n{self.output}"
            assert time.monotonic() < deadline, f"still waiting after {seconds} s:\n{self.output}"
            if time.monotonic() > look:
                self._look()
                look = time.monotonic() + 1
            time.sleep(0.005)

    def wait(self, seconds: float = _SECONDS) -> int:
        """-> exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._look()
            try:
                return self.process.wait(1)
            except subprocess.TimeoutExpired:
                continue
        pytest.fail(f"still running after {seconds} s:\n{self.output}\n{self._stacks()}")

    def signal(self, number: int, *, group: bool = False) -> None:
        """To the driver alone, or, as a terminal does, to its whole process group."""
        self._look()
        (os.killpg if group else os.kill)(self.process.pid, number)

    def left_behind(self, seconds: float = 60.0, *, but: str | None = None) -> list[str]:
        """Names of processes it started that are still there after so long; those are ended.

        Processes whose name holds `but` are neither waited for nor ended nor named.
        """
        deadline = time.monotonic() + seconds
        while (left := self._alive(but)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return list(left.values())

    def _stacks(self) -> str:
        """Where the driver is stuck."""
        arguments = [str(argument) for argument in self.process.args]
        run = Path(arguments[arguments.index("--run") + 1])
        written = stack_file(run / "logs", self.process.pid)
        if not written.exists():
            return "the driver has not come as far as writing stacks"
        self.process.send_signal(STACK_SIGNAL)
        time.sleep(1.0)
        return written.read_text()

    def _look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            driver = psutil.Process(self.process.pid)
            descendants = driver.children(recursive=True)
            self.seen.update(descendants)
            # Seldom: it reads the open files of every process on the machine.
            if time.monotonic() > self.looked_at_sockets + _SOCKETS_S:
                self.sockets |= listening([driver, *descendants])
                self.looked_at_sockets = time.monotonic()

    def _alive(self, but: str | None) -> dict[psutil.Process, str]:
        alive = {}
        for process in {*self.seen, *psutil.process_iter()}:
            with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess, ProcessLookupError):
                ours = process in self.seen or process.environ().get(_MARK) == self.mark
                if ours and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    name = f"{process.pid} {' '.join(process.cmdline()).strip()[:120]}"
                    if but is None or but not in name:
                        alive[process] = name
        return alive


@dataclass(kw_only=True)
class Braid:
    """Starts commands; every one of them is gone when the session ends."""

    folder: Path
    """Where commands run and print to: an empty place, far from the sources."""
    commands: list[Command] = field(default_factory=list)

    def start(self, *arguments: str | Path) -> Command:
        """`braid ARGUMENTS` in a process group of its own."""
        mark = uuid.uuid4().hex
        log = self.folder / f"{len(self.commands)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "rl.cli", *map(str, arguments)],
                cwd=self.folder,
                env={**os.environ, _MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(process=process, mark=mark, log=log))
        return self.commands[-1]

    def train(self, recipe: str | Path, run: Path, overrides: Sequence[str] = TINY) -> Command:
        """Starts `braid train` of a shipped recipe, by its name, or of a file."""
        path = recipe if isinstance(recipe, Path) else _RECIPES / f"{recipe}.yaml"
        return self.start("train", path, "--run", run, *(f"--set={override}" for override in overrides))

    def complete(self, command: Command) -> str:
        """Waits for a command that must succeed and leave nothing behind. -> what it printed."""
        assert command.wait() == 0, command.output
        assert command.left_behind() == []
        return command.output


@pytest.fixture(scope="session")
def braid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Braid]:
    """The command, at work in an empty folder."""
    made = Braid(folder=tmp_path_factory.mktemp("braid"))
    yield made
    for command in made.commands:
        if command.process.poll() is None:
            command.signal(signal.SIGKILL)
            command.process.wait()
        command.left_behind(seconds=0)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides that shrink any shipped recipe to seconds, at S = 0."""
    return (*TINY, "rl.staleness=0")


Trained = Callable[[str, str, Sequence[str]], Path]


@pytest.fixture(scope="session")
def trained(braid: Braid, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """(name, recipe, overrides) -> a finished run: made by the first worker that asks; the others wait.

    Beside the run lies `sockets.json`, with every socket on which one of its processes listened.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def made(name: str, recipe: str, overrides: Sequence[str]) -> Path:
        run, whole = shared / name / "run", shared / f"{name}.whole"
        with FileLock(shared / f"{name}.lock"):
            if not whole.exists():
                # One try: what failed half-way leaves its folder, and fails for the others too.
                run.parent.mkdir()
                command = braid.train(recipe, run, overrides)
                braid.complete(command)
                run.with_name("sockets.json").write_text(json.dumps(sorted(command.sockets)))
                whole.touch()
        return run

    return made


@pytest.fixture(scope="session")
def reference(trained: Trained, tiny: tuple[str, ...]) -> Path:
    """The run directory of countdown_cpu, tiny and synchronous, never interrupted. Not to be changed."""
    return trained("reference", "countdown_cpu", tiny)


def published_reinforcement(recipe: str) -> dict[str, Any]:
    """Algorithm, rewards and temperature of a shipped recipe's stage `rl`."""
    found = load_recipe(_RECIPES / f"{recipe}.yaml").stage("rl").model_dump(mode="json")
    return {key: found[key] for key in ("algorithm", "rewards", "temperature") if found[key] is not None}


@pytest.fixture(scope="session")
def stale(trained: Trained, reference: Path) -> Path:
    """A run with another seed that goes on from the reference's supervised weights, through these stages:

    rl         the reference's own, S = 0: only the seed differs
    ahead      S = 2, groups without signal left out
    everything S = 2, all groups trained, sampled at temperature 0.9
    prm        a reward model of the steps of all these episodes
    orm        one of their outcomes, which begins with the initial model; adapters
    paired     one of better and worse answers from a file (`preferences`)
    guided     S = 1, rewarded by what `prm` says of the steps, and by the progress that forced answers show
    primed     S = 1, by the algorithm of prime_countdown: an implicit reward model in the learner
    pure       S = 1, by rewards and algorithm of pure_countdown: what `prm` says of the steps, in PURE's form
    mc         labels by two completions of every line of a few of the first stage's episodes
    learned    a reward model of these labels
    and an evaluation for each search of the recipes that search with a reward model (`published_searches`)
    """
    stages = json.loads((reference / "recipe.json").read_text())["stages"]
    first = next(stage for stage in stages if stage["kind"] == "rl")
    first |= {"threads": 1}  # the model counts as pretrained, which would give it all cores
    ahead = first | {"name": "ahead", "staleness": 2, "steps": 6, "groups_per_step": 3, "minibatches": 1}
    # Slowly: what has been learned must go on giving groups with signal and without.
    ahead |= {"validate_every": 0, "learning_rate": 3e-4}
    everything = ahead | {"name": "everything", "drop_zero_variance": False, "temperature": 0.9}
    model = {"kind": "pretrained", "path": str(reference / "stages/sft/model"), "max_length": 512}
    prm = {
        "name": "prm", "kind": "reward_model", "steps": 6, "tokens_per_step": 1024, "forest_tokens": 1024,
        "learning_rate": 3e-3, "warmup_steps": 0, "held_out_percent": 30, "label": "valid",
        "source": {"stages": ["rl", "ahead", "everything"]},
    }  # fmt: skip
    orm = prm | {"name": "orm", "target": "outcome", "start": "start", "steps": 2, "episodes": 40}
    orm["lora"] = {"rank": 4}
    paired = prm | {"name": "paired", "target": "outcome", "steps": 2, "loss": {"kind": "bradley_terry"}}
    paired |= {"source": {}, "preferences": [str(write_preferences(reference.parent / "prefs.jsonl"))]}
    rewards = [
        {"name": "format", "penalty": 0.2}, {"name": "process", "source": "scorer", "weight": 0.5},
        {"name": "progress", "credit": "blocks", "weight": 0.5, "answers": 2, "answer_tokens": 12,
         "block_tokens": 16, "most_blocks": 3},
    ]  # fmt: skip
    guided = ahead | {"name": "guided", "staleness": 1, "steps": 2, "rewards": rewards}
    primed, pure = (
        everything | {"name": name, "staleness": 1, "steps": 3} | published_reinforcement(recipe)
        for name, recipe in (("primed", "prime_countdown"), ("pure", "pure_countdown"))
    )
    primed["algorithm"]["implicit"] |= {"learning_rate": 1e-2}
    source, by = {"stages": ["rl"]}, {"kind": "monte_carlo", "completions": 2}
    mc = {"name": "mc", "kind": "label_steps", "source": source, "episodes": 12, "by": by}
    learned = {**prm, "name": "learned", "steps": 2, "labels": "mc", "source": {}}
    searches = [
        {"name": name, "kind": "eval", "checkpoints": ["rl"], "problems": 3, "greedy": False,
         "bootstrap_samples": 100, "protocol": protocol}
        for name, protocol in published_searches().items()
    ]  # fmt: skip
    trainings = [first, ahead, everything, prm, orm, paired, guided, primed, pure, mc, learned]
    changes = {"model": model, "seed": 1, "scorer": {"stage": "prm"}, "stages": [*trainings, *searches]}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return trained("stale", "countdown_cpu", (*TINY, *overrides))


@pytest.fixture(scope="session")
def sequential(trained: Trained, tiny: tuple[str, ...]) -> Path:
    """The run directory of countdown_sequential_cpu, tiny; two ranks of both kinds of training, adapters."""
    overrides = (*tiny, "sft.num_ranks=2", *RANKS_AND_ADAPTERS)
    return trained("sequential", "countdown_sequential_cpu", overrides)


@pytest.fixture(scope="session")
def apr(trained: Trained, tiny: tuple[str, ...]) -> Path:
    """The run directory of countdown_apr, tiny, on the CPU and in float32, with rewards for single steps.

    The rest is the recipe's own: llama with untied embeddings, numbers in digits, S = 1, loss by call, KL
    against the start.
    """
    rewards = next(override for override in TINY if override.startswith("rewards="))
    small = (
        "model.head_dim=32", "model.max_length=512", "protocol.parent_tokens=128", "engine.dtype=float32",
        "protocol.child_tokens=128", "rl.staleness=1", f"{rewards[:-1]}, {{name: process, weight: 0.1}}]",
    )  # fmt: skip
    return trained("apr", "countdown_apr", (*tiny, *small))


@pytest.fixture(scope="session")
def parts(trained: Trained, tiny: tuple[str, ...]) -> Path:
    """The run directory of parts_cpu, tiny: another task, whose parts are all needed; a sharded learner."""
    return trained("parts", "parts_cpu", (*tiny, "rl.num_ranks=2", "rl.sharding=fsdp"))


@pytest.fixture(scope="session")
def tiny_chat_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chat template, special tokens and architecture of SmolLM2 around random weights: 2 layers of width 64.

    Its tokenizer is SmolLM2's, trained anew on a little text: with 49,000 rows of embeddings most of such a
    model's time would go into the softmax. The text has the words of the recipes' questions, which then fit
    the recipes' limits.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    path = tmp_path_factory.mktemp("tiny_chat") / "model"
    task = Parts(PartsParams(text="questions", parts_high=3, high=9, cap=54))
    text = [*CORPUS, *(task.prompt(problem).text for problem in task.problems("train", 100, 0))]
    tokenizer = AutoTokenizer.from_pretrained(smollm2).train_new_from_iterator(
        text, vocab_size=600, show_progress=False
    )
    config = AutoConfig.from_pretrained(smollm2)
    config.update({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.1})
    config.update({"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id})
    config.update({"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_chat(tiny: tuple[str, ...], tiny_chat_model: Path) -> tuple[str, ...]:
    """Overrides for the recipes of a pretrained chat model: the same code, 0.1M random weights, float32."""
    shared = [override for override in tiny if not override.startswith("model.")]
    return (
        *shared, f"model.path={tiny_chat_model}", "engine.dtype=float32", "sft.steps=8",
        "sft.tokens_per_step=512", "sft.lora=null",
        "sft.learning_rate=1e-2", "rl.precision=float32", "rl.drop_zero_variance=false",
    )  # fmt: skip


@pytest.fixture(scope="session")
def smollm2_spawn(trained: Trained, tiny_chat: tuple[str, ...]) -> Path:
    """The run directory of smollm2_cpu, tiny: chat template, added tags, adapters."""
    return trained("smollm2_spawn", "smollm2_cpu", tiny_chat)


@pytest.fixture(scope="session")
def smollm2_sequential(trained: Trained, tiny_chat: tuple[str, ...]) -> Path:
    """The run directory of smollm2_sequential_cpu, tiny; one engine, where smollm2_cpu has its two."""
    return trained("smollm2_sequential", "smollm2_sequential_cpu", (*tiny_chat, "engine.num_engines=1"))
