"""Examples of the docs: every page has one, and those of docs/python.md run on a finished run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
READING, TABLES, THINKING, TRAINING = range(4)


def examples() -> list[str]:
    """The Python examples of docs/python.md."""
    return re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.S)


def ran(number: int, run: Path, tmp_path: Path) -> str:
    """What an example prints, run as a file of its own on another run."""
    path = tmp_path / "example.py"
    path.write_text(examples()[number].replace("runs/demo", str(run)))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=tmp_path, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_page_has_an_example() -> None:
    pages = sorted(DOCS.glob("*.md"))
    without = [page.name for page in pages if not re.search(r"^(```|    \S)", page.read_text(), flags=re.M)]
    assert pages and without == []


def test_every_python_example_is_python() -> None:
    for page in sorted(DOCS.glob("*.md")):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
            compile(code, str(page), "exec")
    assert len(examples()) == 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reading_and_tables(reference: Path, tmp_path: Path) -> None:
    assert "('sft', 'rl', 'eval', 'export')" in ran(READING, reference, tmp_path)
    assert "critical_tokens" in ran(TABLES, reference, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thinking_twice_with_one_seed_gives_the_same(
    reference: Path, tmp_path: Path, no_leftovers: None
) -> None:
    printed = ran(THINKING, reference, tmp_path).splitlines()
    # Lines of the engine's log may stand between ours.
    said = [line for line in printed if re.match(r"\((\d+,? ?)*\) ", line)]
    ends = [found.groups() for line in printed if (found := re.fullmatch(r"(.+) (\d+) (\d+)", line))]
    answer, total, critical = ends[-1]
    # One line for each step of a call; each step has one token or more, and a sampled token is said once.
    assert 0 < len(said) <= int(total) and 0 < int(critical) <= int(total) and answer
