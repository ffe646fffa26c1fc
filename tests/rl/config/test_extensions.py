"""A user's own parts, from files that a recipe names."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extension_lab import doubles, restored_registries, second_opinion
from pydantic import TypeAdapter
from recipe_lab import SMALL, message, write

from data.errors import ConfigError
from data.extensions import VARIABLE
from data.tasks.dataset.layouts import LAYOUTS
from data.tasks.registry import TASKS, build_task
from rewards.compose import TERMS
from rewards.verifiers.base import OutcomeKind, Sample, VerifierParams
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.registry import VERIFIERS, VerifierConfig
from rl.config import fingerprint, load_recipe, resolved
from rl.config.extensions import load_extensions
from rl.config.fingerprint import identity
from rl.storage.run_directory import RunDirectory
from rollout.protocols import PROTOCOLS, default_params
from rollout.protocols.shared.answers import AnswerFormat

OWN: dict[str, Any] = {
    **SMALL,
    "extensions": ["doubles.py", "second_opinion.py"],
    "task": {"name": "doubles", "train_problems": 15, "validation_problems": 4, "test_problems": 8},
    "protocol": {"name": "second_opinion", "max_tokens": 60},
    "rewards": [{"name": "correct"}, {"name": "brevity", "free": 20}],
}
HEAD = "from data.extensions import Registry\nfrom typing import Any, Literal\n"
JUDGE = (
    HEAD
    + '''
from data.text.answer_format import AnswerForm
from rewards.verifiers.base import Outcome, Sample, VerifierParams, graded


class ReversedParams(VerifierParams):
    """No keys of its own."""

    name: Literal["reversed"]
    """Name of the verifier."""


class Reversed:
    def __init__(self, params: ReversedParams) -> None:
        pass

    def __call__(self, sample: Sample) -> Outcome:
        return graded(sample.answer[::-1] in sample.gold)


def find(text, section):
    start = text.rfind("=>")
    return None if start < 0 else (start + 2, len(text))


def register(registry: Registry) -> None:
    arrow = AnswerForm(find=find, write=lambda answer, _: f"=> {answer}", ask=lambda _: "End with =>.")
    registry.answer("arrow", arrow)
    registry.verifier(ReversedParams, Reversed)
    registry.layout("mine", lambda row: None)
'''
)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with restored_registries():
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a task, a term and a protocol from two extensions."""
    doubles(tmp_path)
    second_opinion(tmp_path)
    return write(tmp_path, OWN)


def own(folder: Path, code: str, name: str = "own.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_extensions([path])
    return str(caught.value)


def test_a_recipe_names_parts_of_its_extensions(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    assert loaded.extensions == (tmp_path / "doubles.py", tmp_path / "second_opinion.py")
    assert (
        loaded.protocol.name == "second_opinion" and type(loaded.protocol).__name__ == "SecondOpinionParams"
    )
    assert loaded.task.params.model_dump() == {"highest": 40}
    assert loaded.rewards[1].model_dump()["free"] == 20
    (problem,) = build_task(loaded.task.params).problems("train", 1, 0)
    assert build_task(loaded.task.params).check(problem, str(2 * problem.fields["number"]))
    again = load_recipe(write(tmp_path, json.dumps(resolved(loaded)), "again.yaml"))
    assert resolved(again) == resolved(loaded) and type(again.task) is type(loaded.task)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("task.params.highest=10", ["task.params.highest = 10: must be at least 20", "Largest number"]),
        ("task.params.higest=30", ["task.params.higest", "did you mean 'highest'?"]),
        ("task.name=doubels", ["task.name = 'doubels'", "did you mean 'doubles'?"]),
        ("protocol.name=second_opinon", ["protocol.name", "did you mean 'second_opinion'?"]),
        ("rewards.brevity.fre=3", ["rewards.brevity.fre", "did you mean 'free'?"]),
        ("rewards=[{name: brevty}]", ["did you mean 'brevity'?"]),
        ("extensions=[3]", ["extensions.0 = 3: must be text"]),
        ("extensions=doubles.py", ["extensions", "must be a list"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_explained_as_of_braids_own(recipe: Path, change: str, told: list[str]) -> None:
    text = message(recipe, change)
    for part in told:
        assert part in text


def test_without_its_extension_a_name_is_unknown(recipe: Path) -> None:
    assert "did you mean 'doubles'?" not in message(recipe, "extensions=[]")
    with restored_registries():
        load_recipe(recipe)
    assert not {"doubles", "second_opinion", "brevity"} & {*TASKS, *PROTOCOLS, *TERMS}


def test_the_content_of_an_extension_is_science_and_its_path_is_not(recipe: Path, tmp_path: Path) -> None:
    here = load_recipe(recipe)
    run = RunDirectory(tmp_path / "run")
    run.open(here)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("doubles.py", "second_opinion.py"):
        (tmp_path / name).rename(moved / name)
    there = load_recipe(write(moved, OWN))
    assert fingerprint(there) == fingerprint(here)
    assert list(identity(there).files["extensions.0"].values()) == list(
        identity_of(run)["extensions.0"].values()
    )
    assert run.open(there) == []
    with restored_registries():
        for registry in (TASKS, PROTOCOLS, TERMS):
            for name in ("doubles", "second_opinion", "brevity"):
                registry.pop(name, None)  # type: ignore[attr-defined]
        own(moved, (moved / "doubles.py").read_text() + "\n# changed\n", "doubles.py")
        with pytest.raises(ConfigError, match=r"extensions\.0: .*doubles\.py has other content"):
            run.open(there)


def identity_of(run: RunDirectory) -> dict[str, dict[str, str]]:
    files: dict[str, dict[str, str]] = json.loads((run.path / "fingerprint.json").read_text())["files"]
    return files


READ_RUN = """
import sys
from pathlib import Path
from rl.storage.run_directory import RunDirectory
recipe = RunDirectory(Path(sys.argv[1])).recipe()
print(recipe.task.name, recipe.protocol.name, recipe.rewards[1].name)
"""


@pytest.mark.medium
def test_a_run_is_read_by_its_copies_when_the_originals_are_gone(recipe: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(load_recipe(recipe))
    for name in ("doubles.py", "second_opinion.py"):
        (tmp_path / name).unlink()
    command = [sys.executable, "-c", READ_RUN, str(run.path)]
    clean = {key: value for key, value in os.environ.items() if key != VARIABLE}
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert done.stdout.split() == ["doubles", "second_opinion", "brevity"], done.stderr
    own(run.path / "extensions", "raise SystemExit", "000_doubles.py")
    with pytest.raises(ConfigError, match="was changed after the run was made"):
        run.recipe()


UNPICKLE = """
import pickle, sys
from rl.runtime.ray_session import load_extensions, files_to_load
load_extensions(files_to_load())
recipe = pickle.load(sys.stdin.buffer)
print(recipe.model_dump_json())
"""


@pytest.mark.medium
def test_recipes_cross_to_a_process_that_loads_the_same_files(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    done = subprocess.run(
        [sys.executable, "-c", UNPICKLE], input=pickle.dumps(loaded), capture_output=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == resolved(loaded)


def test_a_verifier_of_an_extension_grades_in_its_child_process(tmp_path: Path) -> None:
    load_extensions([own(tmp_path, JUDGE)])
    assert "reversed" in VERIFIERS and "mine" in LAYOUTS
    params: VerifierParams = TypeAdapter[VerifierParams](VerifierConfig).validate_python(
        {"name": "reversed", "processes": 1}
    )
    with VerifierPool(params) as pool:
        found = list(pool.verify([Sample(question="?", answer=a, gold=("12",)) for a in ("21", "12")]))
    assert [outcome.kind for outcome in found] == [OutcomeKind.CORRECT, OutcomeKind.WRONG]


def test_answers_in_a_form_of_an_extension(tmp_path: Path) -> None:
    own(tmp_path, JUDGE)
    content = {**SMALL, "extensions": ["own.py"]}
    answer = load_recipe(write(tmp_path, content), ["protocol.answer={kind: arrow}"]).protocol.answer
    text = "2 => 3 =>  4 \n"
    found = answer.find(text)
    assert found is not None and text[slice(*found)] == "4"
    assert AnswerFormat(answer).words("7") == ("=> 7",) and AnswerFormat(answer).phrase() == "End with =>."
    told = message(write(tmp_path, content), "protocol.answer={kind: arow}")
    assert "protocol.answer.kind = 'arow': must be 'tags', 'boxed', " in told and "or 'arrow'" in told


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = (\n", "own.py:1: SyntaxError"),
        ("import os\n\nimport nothing_of_this_name\n", "own.py:3: ModuleNotFoundError"),
        ("def register(registry):\n    registry.nothing()\n", "own.py:2: AttributeError"),
        ("x = 1\n", "own.py: has no function register(registry)"),
        ("def register(registry):\n    pass\n", "own.py: registers nothing"),
        (
            "def register(registry):\n    registry.protocol(int)\n",
            "own.py:2: protocol: None is not a subclass of data.params.Params",
        ),
        ("def register(registry):\n    registry.task(int)\n", "own.py:2: task: int is not a subclass of"),
        (JUDGE.replace("registry.verifier", "registry.term"), "no subclass of rewards.term.TermParams"),
        (JUDGE.replace('"reversed"', '"math"'), "verifier 'math': this name is taken"),
        (JUDGE.replace('    name: Literal["reversed"]\n', ""), "needs a field name: Literal[...]"),
        (JUDGE.replace('"mine"', '"trl"'), "layout 'trl': this name is taken"),
        (JUDGE.replace('"mine"', '"my own"'), "the name 'my own' is not made of letters"),
        (
            "from data.tasks.countdown import Countdown\n\nclass Mine(Countdown):\n    name = 'mine'\n\n"
            "def register(registry):\n    registry.task(Mine)\n",
            "task 'mine': its Params are those of another task",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_an_extension(tmp_path: Path, code: str, told: str) -> None:
    text = refusal(own(tmp_path, code))
    assert told in text and "\n  fix: " in text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no.py'}: this extension cannot be read" in refusal(tmp_path / "no.py")


def test_two_files_cannot_have_one_name(tmp_path: Path) -> None:
    load_extensions([own(tmp_path, JUDGE)])
    assert "answer 'arrow': this name is taken" in refusal(own(tmp_path, JUDGE + "\n# other\n", "b.py"))
    load_extensions([own(tmp_path, JUDGE, "same.py")])  # the same content is the same extension


def test_no_compiled_file_is_left_beside_an_extension(tmp_path: Path) -> None:
    load_extensions([second_opinion(tmp_path)])
    assert default_params("second_opinion").model_dump()["max_tokens"] == 200
    assert [path.name for path in tmp_path.iterdir()] == ["second_opinion.py"]
