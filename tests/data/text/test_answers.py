"""Where an answer stands in a text."""

import json
from typing import Any

import pytest

from data.text.answer_format import AnswerFormatConfig

ROWS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"kind": "tags"}, "so <answer> 42", "42"),
    ({"kind": "tags"}, "<answer>1</answer> no, <answer>2</answer> done", "2"),
    ({"kind": "tags"}, "<answer> ", None),
    ({"kind": "boxed"}, r"is \boxed{42}.", "42"),
    ({"kind": "boxed"}, r"\boxed{\frac{1}{2}} and \fbox{ 7 }", "7"),
    ({"kind": "boxed"}, r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    ({"kind": "boxed"}, r"\boxed{\boxed{5}}", "5"),
    ({"kind": "boxed"}, r"\boxed{a \fbox{b} c}", r"a \fbox{b} c"),
    ({"kind": "boxed"}, r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    ({"kind": "boxed"}, r"\boxed 5 and more", "5"),
    ({"kind": "boxed"}, r"first \boxed{3}, then \boxed{4", "3"),
    ({"kind": "boxed"}, r"\boxed{3} \boxed{ }", None),
    ({"kind": "boxed"}, r"\boxed", None),
    ({"kind": "boxed"}, "42", None),
    ({"kind": "after"}, "Final Answer: 19", "19"),
    ({"kind": "after"}, "**Final answer:** 19 apples **\nmore", "19 apples"),
    ({"kind": "after"}, "1 + 1\n#### 1,000\n", "1,000"),
    ({"kind": "after"}, "Final Answer:\n\n  19\nbye", "19"),
    ({"kind": "after"}, "Final Answer: 1\nFinal Answer:", None),
    ({"kind": "after", "markers": ["Answer:"]}, "Answer: x = 2", "x = 2"),
    ({"kind": "last_number"}, "from 3 to 1,250.50 dollars.", "1,250.50"),
    ({"kind": "last_number"}, "it is -3", "-3"),
    ({"kind": "last_number"}, "10-4", "4"),
    ({"kind": "last_number"}, "about .5", ".5"),
    ({"kind": "last_number"}, "1,2,3", "3"),
    ({"kind": "last_number"}, "none", None),
    ({"kind": "choice"}, "The answer is (B), not A", "B"),
    ({"kind": "choice"}, "Answer: **C**", "C"),
    ({"kind": "choice"}, "I think that (A) or (D)", "D"),
    ({"kind": "choice"}, "A good one. B", "B"),
    ({"kind": "choice"}, "nothing here", None),
    ({"kind": "code"}, "```python\nx = 1\n```\ntext\n```\ny = 2\n```", "y = 2"),
    ({"kind": "code"}, "```\nx = 1\n```\n```\ny = 2", "x = 1"),
    ({"kind": "code"}, "x = 1", None),
    ({"kind": "whole"}, " all of it\n", "all of it"),
    ({"kind": "whole"}, " \n", None),
    ({"kind": "boxed", "scope": "after_think"}, r"<think> \boxed{1} </think> \boxed{2}", "2"),
    ({"kind": "boxed", "scope": "after_think"}, r"\boxed{1} </think> so", None),
    ({"kind": "boxed", "scope": "after_think"}, r"<think> \boxed{1}", None),
    ({"kind": "boxed", "scope": "after_think"}, r"a </think> \boxed{2} <think> \boxed{3}", None),
    ({"kind": "whole", "scope": "after_think"}, "a</think> b </think>\n c ", "c"),
]


@pytest.mark.parametrize(("params", "text", "answer"), ROWS)
def test_the_answer_of_a_text(params: dict[str, Any], text: str, answer: str | None) -> None:
    found = AnswerFormatConfig.model_validate_json(json.dumps(params)).find(text)
    assert (None if found is None else text[slice(*found)]) == answer


@pytest.mark.parametrize("kind", ["tags", "boxed", "after", "last_number", "choice", "code", "whole"])
def test_a_degenerate_text_is_read_at_once(kind: str) -> None:
    config = AnswerFormatConfig(kind=kind)  # type: ignore[arg-type]
    for unit in ("\\boxed{", "\\boxed ", "Final Answer:", "1,", "```\n", "(A", "{", " ", "-"):
        config.find(unit * (100_000 // len(unit)))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"kind": "boxed", "markers": ("x",)}, "markers are for kind: after"),
        ({"kind": "boxed", "letters": "AB"}, "letters are for kind: choice"),
        ({"kind": "after", "markers": (" ",)}, "a marker is empty"),
    ],
)
def test_what_does_not_fit_together_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AnswerFormatConfig(**params)
