"""An optimizer's moments as plain named tensors and back, with sharded parameters or whole ones."""

import torch

from rl.learner.sharding import spread_like, whole


def moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """`<parameter>.<moment>` -> whole tensor, no copy; parameters are numbered as in the optimizer's groups.
    All ranks must call it.
    """
    return {
        f"{index}.{name}": whole(value)
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Inverse of `moments`, bit for bit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in sorted(tensors.items()):
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # Step counts are scalars and stay whole.
        spread = spread_like(value, parameter) if value.shape == parameter.shape else value
        state.setdefault(int(index), {})[name] = spread
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
