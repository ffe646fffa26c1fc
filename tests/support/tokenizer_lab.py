"""Small tokenizers of the kinds that pretrained models have, with chat templates of their own.

gpt       byte-level BPE, digits one by one, ChatML-like template (SmolLM2's kind)
llama     byte-level BPE with a begin-of-text that the tokenizer and the template write; two ends
unigram   Unigram with Metaspace, bytes for the rest; `<s>`, `</s>` are pieces of the vocabulary
metaspace BPE after SentencePiece: a space in front of every text, `▁` for spaces, bytes for the rest
neox      byte-level BPE whose runs of spaces are added tokens
qwen      byte-level BPE with NFC, `<think>` as added token that is not special; its template drops the
          thinking of earlier turns
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from data.text.codec import Codec
from data.text.structure import add_structural_tokens

CORPUS = [
    "The sum of 37 and 10 is 47, so hello world, he said: think step by step.\n\n",
    "user system assistant answer final Answer the parallel path thread outline summary\n",
    "def f(x):\n    return x + 1\n\n\n        done\t\ttabs  and   spaces    here\n",
    "Path Thread Parallel think Outline answer boxed < > </ |> <| im_start im_end eot_id\n",
] * 8
"""What the vocabularies are trained on: merges over the seams that the tests look at."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start|>' + message['role'] + '<|stop|>\n\n' + "
    "message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\n\n' }}{% endif %}"
)
TURNS = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + '</s>' }}{% endif %}{% endfor %}"
)
QWEN = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def _byte_level(special: Iterable[str], *, digits: bool) -> Tokenizer:
    core = Tokenizer(models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return core


def gpt() -> Any:
    """Tokenizer like SmolLM2's: byte-level BPE, digits one by one, pad equal to the end."""
    core = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], digits=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>"
    )


def llama() -> Any:
    """Llama 3's kind: the tokenizer writes begin-of-text itself, and so does its template."""
    core = _byte_level(["<|bot|>", "<|eom|>", "<|start|>", "<|stop|>", "<|eot|>"], digits=False)
    core.post_processor = processors.TemplateProcessing(
        single="<|bot|> $A", pair="<|bot|> $A <|bot|> $B", special_tokens=[("<|bot|>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|bot|>", eos_token="<|eot|>")


def unigram() -> Any:
    """T5's and XLNet's kind, with bytes for characters that the vocabulary lacks."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    trained = trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(CORPUS, trained)
    pieces = [
        (core.id_to_token(index), -1.0 - 0.02 * index)
        for index in range(core.get_vocab_size())
        if core.id_to_token(index) != "<unk>"
    ]
    table = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        *((f"<0x{b:02X}>", -20.0) for b in range(256)),
        *pieces,
    ]
    core.model = models.Unigram(table, 0, True)
    core.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement="▁", prepend_scheme="first"),
        ]
    )
    core.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def metaspace() -> Any:
    """Llama 2's kind: a normaliser writes `▁` in front of every text and for every space."""
    letters = sorted({letter for text in CORPUS for letter in text.replace(" ", "▁")})
    special = ["<unk>", "<s>", "</s>"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("l", "l"), ("ll", "o"), ("he", "llo"), ("▁", "▁")]
    tokens = [*special, *(f"<0x{b:02X}>" for b in range(256)), *letters]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    core.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def neox() -> Any:
    """GPT-NeoX's and Phi's kind."""
    core = _byte_level(["<|endoftext|>", "<|padding|>"], digits=False)
    runs = [" " * count for count in range(12, 1, -1)] + ["\t\t\t", "\t\t"]
    core.add_tokens([AddedToken(run, normalized=True) for run in runs])
    core.add_tokens([AddedToken("<|im_end|>", normalized=False)])
    core.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|padding|>")


def qwen() -> Any:
    """Tokenizer like Qwen3's: `<think>` is an added token that is not special."""
    core = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], digits=True)
    pattern = Regex(
        r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.normalizer = normalizers.NFC()
    core.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")


KINDS: dict[str, Callable[[], Any]] = {
    "gpt": gpt,
    "llama": llama,
    "unigram": unigram,
    "metaspace": metaspace,
    "neox": neox,
    "qwen": qwen,
}
TEMPLATES = {"gpt": CHATML, "llama": LLAMA, "unigram": TURNS, "metaspace": TURNS, "qwen": QWEN}
"""Chat templates; GPT-NeoX has none."""
ENDS: dict[str, tuple[str, ...]] = {"llama": ("<|eom|>",), "qwen": ("<|endoftext|>",)}
"""Further ends of a call, as generation_config.json has them."""


@cache
def codec_of(kind: str, tags: tuple[str, ...] = ()) -> Codec:
    """The codec of a kind of tokenizer, with tags added as tokens; shared between tests."""
    tokenizer = KINDS[kind]()
    tokenizer.chat_template = TEMPLATES.get(kind)
    if tags:
        add_structural_tokens(tokenizer, tags)
    ends = [int(tokenizer.convert_tokens_to_ids(text)) for text in ENDS.get(kind, ())]
    return Codec(tokenizer, ends)
