"""Rounding to bfloat16, by hand and against torch."""

import numpy as np
import torch

from rl.export.number_format import to_bfloat16, wanted_format


def test_rounding_by_hand() -> None:
    """Half-way numbers go to the even neighbour; others to the nearest."""
    numbers = np.array([1.0, 1.00390625, 1.01171875, 1.0039064, -1.00390625, 0.0], dtype=np.float32)
    assert [hex(bits) for bits in to_bfloat16(numbers)] == [
        "0x3f80", "0x3f80", "0x3f82", "0x3f81", "0xbf80", "0x0",
    ]  # fmt: skip


def test_rounding_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(100_000, generator=generator) * torch.logspace(-38, 38, 100_000)
    found = torch.from_numpy(to_bfloat16(numbers.numpy()).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(found, numbers.to(torch.bfloat16))


def test_the_format_that_a_configuration_names() -> None:
    assert wanted_format({"dtype": "bfloat16"}) == "BF16"
    assert wanted_format({"torch_dtype": "torch.float16"}) == "F16"
    assert wanted_format({"dtype": "float32"}) == "F32"
    assert wanted_format({}) is None
