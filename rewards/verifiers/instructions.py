"""The 25 instructions of IFEval (arXiv 2311.07911): pure functions of a response and arguments.

Ids and arguments are Google's. Two of them use tools there that need downloads, and differ here:
sentences end at . ! or ? before white space and a capital letter or the end (there NLTK's punkt model), and a
language is told by its alphabet or its most frequent words (there langdetect).
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from rewards.verifiers.languages import is_language

Arguments = Mapping[str, Any]
_LESS, _MORE = "less than", "at least"


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores, as Google's tokenizer counts them."""
    return len(re.findall(r"\w+", text))


def count_sentences(text: str) -> int:
    """Pieces that end with . ! or ? before white space and a capital letter, digit or quote, or at the end.

    Example: "He left. e.g. home... 4 of them?" has two.
    """
    pieces = re.split(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(\[])", text.strip())
    return len([piece for piece in pieces if re.search(r"\w", piece)])


def relates(count: int, relation: str, bound: int) -> bool:
    """`count` against a bound. Raises ValueError for an unknown relation."""
    if relation not in (_LESS, _MORE):
        raise ValueError(f"relation {relation!r} is neither {_LESS!r} nor {_MORE!r}")
    return count < bound if relation == _LESS else count >= bound


def _existence(text: str, kw: Arguments) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in map(re.escape, kw["keywords"]))


def _frequency(text: str, kw: Arguments) -> bool:
    found = re.findall(re.escape(kw["keyword"]), text, re.IGNORECASE)
    return relates(len(found), kw["relation"], kw["frequency"])


def _forbidden(text: str, kw: Arguments) -> bool:
    words = map(re.escape, kw["forbidden_words"])
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)


def _letters(text: str, kw: Arguments) -> bool:
    found = text.lower().count(str(kw["letter"]).lower())
    return relates(found, kw["let_relation"], kw["let_frequency"])


def _language(text: str, kw: Arguments) -> bool:
    return is_language(text, kw["language"])


def _sentences(text: str, kw: Arguments) -> bool:
    return relates(count_sentences(text), kw["relation"], kw["num_sentences"])


def _words(text: str, kw: Arguments) -> bool:
    return relates(count_words(text), kw["relation"], kw["num_words"])


def _paragraphs(text: str, kw: Arguments) -> bool:
    """Paragraphs between `***`; only the first and the last may be empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = [bool(part.strip()) for part in parts]
    return all(inner[1:-1]) and bool(sum(inner) == kw["num_paragraphs"])


def _nth_paragraph(text: str, kw: Arguments) -> bool:
    """Paragraphs between blank lines, in the right number, the n-th beginning with a word."""
    parts = [part for part in re.split(r"\n\n", text) if part.strip()]
    if len(parts) != kw["num_paragraphs"] or kw["nth_paragraph"] > len(parts):
        return False
    first = parts[kw["nth_paragraph"] - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", first)[0].lower() == str(kw["first_word"]).lower()


def _placeholders(text: str, kw: Arguments) -> bool:
    return bool(len(re.findall(r"\[.*?\]", text)) >= kw["num_placeholders"])


def _postscript(text: str, kw: Arguments) -> bool:
    marker = str(kw["postscript_marker"]).strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(rf"\s*{pattern}.*$", text.lower(), re.MULTILINE) is not None


def _bullets(text: str, kw: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return bool(len(stars) + len(dashes) == kw["num_bullets"])


def _constrained(text: str, kw: Arguments) -> bool:
    return any(option in text for option in ("My answer is yes.", "My answer is no.", "My answer is maybe."))


def _highlights(text: str, kw: Arguments) -> bool:
    found = re.findall(r"\*[^\n\*]*\*", text) + re.findall(r"\*\*[^\n\*]*\*\*", text)
    return bool(len([part for part in found if part.strip("*").strip()]) >= kw["num_highlights"])


def _sections(text: str, kw: Arguments) -> bool:
    parts = re.split(rf"\s?{re.escape(str(kw['section_spliter']).strip())}\s?\d+\s?", text)
    return bool(len(parts) - 1 >= kw["num_sections"])


def _json(text: str, kw: Arguments) -> bool:
    bare = re.sub(r"^```(?:json|Json|JSON)?|```$", "", text.strip()).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, kw: Arguments) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, kw: Arguments) -> bool:
    parts = text.split("******")
    given = [part.strip() for part in parts if part.strip()]
    return all(part.strip() for part in parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _repeats(text: str, kw: Arguments) -> bool:
    return text.strip().lower().startswith(str(kw["prompt_to_repeat"]).strip().lower())


def _end(text: str, kw: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(str(kw["end_phrase"]).strip().lower())


def _capital_words(text: str, kw: Arguments) -> bool:
    words = [word for word in re.findall(r"[\w'-]+", text) if word.isupper()]
    return relates(len(words), kw["capital_relation"], kw["capital_frequency"])


def _capital(text: str, kw: Arguments) -> bool:
    return text.isupper() and is_language(text, "en")


def _lowercase(text: str, kw: Arguments) -> bool:
    return text.islower() and is_language(text, "en")


def _no_comma(text: str, kw: Arguments) -> bool:
    return "," not in text


def _quotation(text: str, kw: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


INSTRUCTIONS: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _end,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capital,
    "change_case:english_lowercase": _lowercase,
    "punctuation:no_comma": _no_comma,
    "startend:quotation": _quotation,
}
"""Google's id -> whether a response follows it; KeyError, TypeError or ValueError for bad arguments."""
