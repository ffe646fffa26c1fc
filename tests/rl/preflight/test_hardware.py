"""The machine in one line."""

from rl.preflight.hardware import Gpu, Machine


def test_a_machine_in_one_line() -> None:
    gpu = Gpu(name="A", total_gb=80, free_gb=70)
    sizes = {"cores": 8, "memory_gb": 31.7, "free_gb": 9.0, "shared_free_gb": None, "disk_free_gb": 5.0}
    one = Machine(**sizes, cpu="Some CPU", gpus=(gpu, Gpu(name="B", total_gb=8, free_gb=8), gpu))  # type: ignore[arg-type]
    assert str(one) == "8 cores (Some CPU), 32 GiB, 2 x A, 1 x B"
    assert str(Machine(**sizes, cpu="Some CPU")) == "8 cores (Some CPU), 32 GiB"  # type: ignore[arg-type]
