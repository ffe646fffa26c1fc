"""Section `model`: a small model from random weights, or a pretrained directory."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.params import CONTENT, Params

HeadDim = Literal[32, 64, 80, 96, 112, 128, 160, 192, 224, 256]
"""Head sizes for which vLLM 0.32 has attention kernels on CPU and on CUDA alike."""


class ScratchModel(Params):
    """A decoder with random weights; its tokenizer is built from the task's and the protocols' words."""

    kind: Literal["scratch"]
    """A model with random weights."""
    architecture: Literal["qwen3", "llama"] = "qwen3"
    """Architecture in transformers: qwen3 normalises queries and keys, llama does not."""
    hidden_size: int = Field(ge=32, multiple_of=8, le=65_536)
    """Width of the residual stream."""
    num_layers: int = Field(ge=1, le=1_000)
    """Number of transformer blocks."""
    num_heads: int = Field(ge=1, le=1_024)
    """Number of query heads."""
    num_kv_heads: int = Field(ge=1, le=1_024)
    """Key and value heads; divides num_heads."""
    head_dim: HeadDim = 32
    """Size of one head."""
    intermediate_size: int = Field(ge=32, multiple_of=8, le=1_000_000)
    """Width of the gated MLP."""
    tie_embeddings: bool = True
    """Share the input embedding with the output layer."""
    max_length: int = Field(ge=32, le=10_000_000)
    """Longest context plus output of one call, in tokens."""
    numbers: int = Field(default=99, ge=0, le=100_000)
    """The tokenizer gets a whole token for each of 1..numbers; larger numbers need `digits`."""
    digits: bool = False
    """Write numbers digit by digit."""
    protocols: tuple[str, ...] = ()
    """Protocols whose tags the tokenizer gets in addition to those of the stages, for later use."""

    def num_parameters(self, vocabulary: int) -> int:
        """Number of weights, embeddings included (counted once when tied), norms left out (< 0.1%)."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        mlp = 3 * self.hidden_size * self.intermediate_size
        embeddings = vocabulary * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * (attention + mlp) + embeddings


class PretrainedModel(Params):
    """A local Hugging Face directory with config.json, tokenizer.json and safetensors."""

    kind: Literal["pretrained"]
    """A model from a directory."""
    path: Path = Field(json_schema_extra=CONTENT)
    """The directory, relative to the recipe."""
    max_length: int = Field(default=4_096, ge=32, le=10_000_000)
    """Longest context plus output of one call, in tokens; at most the model's own."""
    tags: Literal["add", "require", "text"] = "add"
    """What to do when a protocol's tag is not one token of the tokenizer: `add` it as a token, `require` it
    and refuse the model, or write it as ordinary `text`.
    """


ModelConfig = Annotated[ScratchModel | PretrainedModel, Field(discriminator="kind")]
