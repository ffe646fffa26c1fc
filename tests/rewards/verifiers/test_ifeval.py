"""IFEval's 25 instructions, each with a response that follows it and one that does not."""

from collections.abc import Callable
from typing import Any

import pytest

from rewards.verifiers.base import Outcome, OutcomeKind
from rewards.verifiers.instructions import INSTRUCTIONS, count_sentences, count_words
from rewards.verifiers.languages import is_language

ENGLISH = "this is the answer that you have asked for"
TABLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "a cat, a dog", "a cat"),
    ("keywords:frequency", {"keyword": "ha", "relation": "at least", "frequency": 2}, "ha Ha", "ha"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "a category", "a Cat."),
    ("keywords:letter_frequency", {"letter": "q", "let_relation": "at least", "let_frequency": 2}, "qq", "Q"),
    ("language:response_language", {"language": "de"}, "das ist nicht die Antwort und der Rest", ENGLISH),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, "A.", "A. B!"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\nb\n***\nc"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b c", "a b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "well"},
        "One\n\nWell, two", "One\n\nTwo",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "text\nP. S. more", "text"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "no"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb", "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<Title>>\ntext", "<< >>"),
    ("combination:two_responses", {}, "a******b", "a******a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "say it: yes", "yes, say it"),
    ("startend:end_checker", {"end_phrase": "The end."}, 'Good. the end."', "The end. Good."),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "NASA and ESA", "NASA",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
    ("startend:quotation", {}, '"a"', '"a'),
]  # fmt: skip


def test_all_instructions_are_in_the_table() -> None:
    assert [name for name, *_ in TABLE] == list(INSTRUCTIONS) and len(TABLE) == 25


@pytest.mark.parametrize(("name", "kwargs", "follows", "breaks"), TABLE)
def test_table(name: str, kwargs: dict[str, Any], follows: str, breaks: str) -> None:
    assert INSTRUCTIONS[name](follows, kwargs)
    assert not INSTRUCTIONS[name](breaks, kwargs)


def test_counts() -> None:
    assert count_words("It's 3.5, isn't it?") == 7  # It s 3 5 isn t it, as Google's \w+ counts
    assert count_sentences('He said "No." Then he left. e.g. this one goes on... 4 of them?') == 3
    assert count_sentences("") == 0


def test_languages() -> None:
    assert is_language("Это ответ", "ru") and not is_language("Это ответ", "en")
    assert is_language("これは答えです", "ja") and is_language("这是答案", "zh")
    assert is_language("la respuesta es que los números se suman", "es")
    assert not is_language("12 + 3", "en")
    with pytest.raises(ValueError, match="'xx' is not known"):
        is_language("a", "xx")


@pytest.mark.medium
def test_a_share_of_the_instructions_is_a_score_and_all_are_correct(
    verify: Callable[..., Outcome],
) -> None:
    row = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    whole = verify((), '"a"', name="ifeval", fields=row)
    assert (whole.kind, whole.score) == (OutcomeKind.CORRECT, 1.0)
    half = verify((), "a", name="ifeval", fields=row)
    assert (half.kind, half.score, half.reason) == (OutcomeKind.WRONG, 0.5, "broke startend:quotation")
    gold = '[{"instruction_id": ["punctuation:no_comma"], "kwargs": [null]}]'
    assert verify(gold, "a", name="ifeval").kind is OutcomeKind.CORRECT
    assert verify(gold, " ", name="ifeval").kind is OutcomeKind.ANSWER_UNPARSABLE


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "0 ids and 0 kwargs"),
        ({"instruction_id_list": ["no:such"], "kwargs": [{}]}, "there is no instruction 'no:such'"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}, "KeyError: 'keywords'"),
        ({"instruction_id_list": ["startend:quotation"], "kwargs": [{}, {}]}, "1 ids and 2 kwargs"),
    ],
)
def test_instructions_that_cannot_be_read_are_no_fault_of_the_answer(
    verify: Callable[..., Outcome], row: dict[str, Any], reason: str
) -> None:
    outcome = verify((), "a", name="ifeval", fields=row)
    assert outcome.kind is OutcomeKind.GOLD_UNPARSABLE and reason in outcome.reason
