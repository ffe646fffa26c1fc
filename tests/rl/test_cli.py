"""The command line: each bad input ends with one message and exit code 2; nothing heavy is imported."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.errors import BraidError, ConfigError
from rl import cli
from rl.commands import check, train
from rl.storage.identity import make_identity

ROOT = Path(__file__).parents[2]
CPU = ROOT / "recipes" / "countdown_cpu.yaml"
HEAVY = ("torch", "ray", "vllm", "transformers", "trl", "datasets", "matplotlib")
COMMANDS = (
    "train",
    "top",
    "track",
    "eval",
    "export",
    "episodes",
    "replay",
    "plan",
    "steps",
    "check",
    "doctor",
)
_RUN = f"""
import sys
from rl.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print("heavy:", heavy)
sys.exit(99 if heavy else code)
"""


def braid(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """`braid ...` in a process of its own; exit code 99 when something heavy was imported."""
    command = [sys.executable, "-c", _RUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


def refused(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("braid: ") and done.stderr.count("braid: ") == 1
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.medium
def test_unknown_key() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    refused(
        braid("train", CPU, "--run", "unused", "--set", "rl.stepz=3"),
        "rl.stepz",
        "did you mean 'steps'?",
        str(CPU),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, which a busy machine does not stretch: most of it is building pydantic's classes.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert not (ROOT / "unused").exists()


@pytest.mark.medium
def test_value_out_of_range() -> None:
    refused(
        braid("check", CPU, "--set", "rl.samples_per_group=1"),
        "rl.samples_per_group = 1",
        "at least 2",
        "fix: ",
    )


@pytest.mark.medium
def test_missing_recipe() -> None:
    refused(braid("check", "recipes/countdown_gpu.yaml"), "there is no such file", "countdown_cpu.yaml")


@pytest.mark.medium
def test_missing_problem_file(tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    done = braid("check", CPU, "--set", f"task.files.train={missing}")
    refused(done, "task.files.train", str(missing), "there is no such file", "fix: ")


@pytest.mark.medium
def test_missing_model_directory(tmp_path: Path) -> None:
    model = f"{{kind: pretrained, path: {tmp_path / 'none'}}}"
    refused(braid("check", CPU, "--set", f"model={model}"), "model.path", "cannot be read", "fix: ")


@pytest.mark.medium
def test_calls_longer_than_the_context() -> None:
    refused(braid("check", CPU, "--set", "model.max_length=100"), "model.max_length = 100", "raise it to 186")


@pytest.mark.medium
def test_no_memory_for_the_cache() -> None:
    done = braid("train", CPU, "--run", "unused", "--set", "engine.kv_cache_gb=1e6")
    refused(done, "engine.kv_cache_gb = 1000000.0", "are free", "fix: ")
    assert not (ROOT / "unused").exists()


@pytest.mark.medium
def test_run_directory_of_another_recipe(tmp_path: Path) -> None:
    make_identity(tmp_path, {}, fingerprint="0" * 64, files={}, simulated="")
    refused(braid("train", CPU, "--run", tmp_path), str(tmp_path), "another recipe")


@pytest.mark.medium
def test_directory_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    refused(braid("train", CPU, "--run", tmp_path), str(tmp_path), "not a run directory")
    refused(braid("eval", tmp_path), str(tmp_path), "is not a run directory")
    refused(braid("export", tmp_path, "--output", tmp_path / "x"), str(tmp_path), "is not a run directory")


@pytest.mark.medium
def test_check_of_a_sound_recipe_prints_what_it_found() -> None:
    done = braid("check", CPU, "--set", "engine.device=cpu")
    assert done.returncode == 0, done.stderr
    for word in ("problems", "12000 train", "KV cache", "memory", "placement", "disk"):
        assert word in done.stdout


@pytest.mark.medium
def test_plan_of_a_machine_nobody_has_measured() -> None:
    refused(braid("plan", CPU, "--nodes", "4"), "no timing data", "--decode-ms", "--from")
    refused(braid("plan", CPU, "--set", "rl.staleness=-1"), "rl.staleness = -1")
    refused(braid("plan", CPU, "--from", ROOT), "is not a run directory", "fix: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example_that_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    example = text.split("example:\n")[1].strip()
    words = example.split()
    assert words[:2] == ["braid", command]
    assert cli.build_parser().parse_args(words[1:]).command == command


def test_the_cli_imports_nothing_heavy() -> None:
    done = braid("--help")
    assert done.returncode == 0 and "heavy: []" in done.stdout


def _raising(error: BaseException) -> Any:
    def handler(_: object) -> int:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (ConfigError("file: key = 1: reason"), 2, "braid: file: key = 1: reason\n"),
        (BraidError("the engine died"), 1, "braid: the engine died\n"),
        (KeyboardInterrupt(), 130, "Resume with the same command:\n  braid train 'my recipe.yaml' --run d\n"),
    ],
)
def test_errors_become_one_message_and_an_exit_code(
    error: BaseException,
    code: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(train, "run", _raising(error))
    assert cli.main(["train", "my recipe.yaml", "--run", "d"]) == code
    assert capsys.readouterr().err.endswith(expected)


def test_an_error_from_a_worker_is_shown_as_it_was_raised_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class WrappedError(ConfigError):
        """As Ray makes it: an instance of the cause's class, whose own text is a traceback."""

        cause = ConfigError("what the worker said")

    monkeypatch.setattr(check, "run", _raising(WrappedError("long traceback")))
    assert cli.main(["check", "r.yaml"]) == 2
    assert capsys.readouterr().err == "braid: what the worker said\n"


def test_ctrl_c_ends_the_process_with_130(tmp_path: Path) -> None:
    script = "import time, sys, rl.cli as c, rl.commands.train as t\n"
    script += "def wait(_):\n  print('ready', flush=True)\n  time.sleep(60)\n"
    script += "t.run = wait\nsys.exit(c.main(['train', 'r.yaml', '--run', 'd']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "braid train r.yaml --run d" in errors


@pytest.mark.medium
def test_ctrl_c_three_times_lets_the_first_one_finish() -> None:
    script = "import time, sys, rl.cli as c, rl.commands.train as t\n"
    script += "def wait(_):\n  try:\n    print('ready', flush=True)\n    time.sleep(60)\n"
    script += (
        "  finally:\n    print('closing', flush=True)\n    time.sleep(1)\n    print('closed', flush=True)\n"
    )
    script += "t.run = wait\nsys.exit(c.main(['train', 'r.yaml', '--run', 'd']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    for expected in ("ready\n", "closing\n", "closing"):
        if expected.endswith("\n"):
            assert process.stdout.readline() == expected
        os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and output == "closed\n"
    assert "Traceback" not in errors and errors.count("braid: stopped") == 1


def _as_installed(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """As the console script: neither its folder nor the working directory comes before PYTHONPATH."""
    code = f"import sys; sys.path.append({str(ROOT)!r}); import braid_rl; sys.exit(braid_rl.main())"
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables)


@pytest.mark.parametrize("name", ["data", "rl"])
def test_another_package_of_our_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
    done = _as_installed("--help", PYTHONPATH=str(tmp_path))
    refused(done, f"the package {name!r} would be imported from {tmp_path / name}", "fix: unset PYTHONPATH")
    assert _as_installed("--help", PYTHONPATH="").returncode == 0


@pytest.mark.medium
def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "rl.cli", "check", str(CPU), "--set", "engine.device=cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, "")


@pytest.mark.medium
def test_an_output_that_cannot_be_written_is_one_message() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "rl.cli", "check", str(CPU), "--set", "engine.device=cpu"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "braid: output cannot be written (No space left on device)\n"


@pytest.mark.medium
def test_names_that_are_not_ascii_under_an_ascii_locale(tmp_path: Path) -> None:
    run = tmp_path / "größe"
    run.mkdir()
    (run / "thesis.tex").write_text("")
    refused(_as_installed("train", CPU, "--run", run, LC_ALL="C"), "not a run directory")


@pytest.mark.medium
def test_half_a_simulation_is_refused(tmp_path: Path) -> None:
    run = ("train", CPU, "--run", tmp_path / "run", "--simulate", "rollout")
    refused(braid(*run), "--simulate and --simulate-from belong together")
    refused(braid(*run, "--simulate-from", tmp_path), f"{tmp_path}: is not a run directory", "fix: ")
    (tmp_path / "recipe.json").write_text("{}")
    refused(braid(*run, "--simulate-from", tmp_path), "rl.validate_every", "fix: --set rl.validate_every=0")
    assert not (tmp_path / "run").exists()


def test_bad_options_are_refused_by_the_parser() -> None:
    for wrong in (
        ["train", "r.yaml"],
        ["eval", "d", "--samples", "0"],
        ["eval", "d", "--split", "train"],
        ["fly"],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(wrong)
        assert stop.value.code == 2
