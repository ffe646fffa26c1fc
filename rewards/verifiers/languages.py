"""Which language a text is in, by its alphabet and its most frequent words; no model, no download."""

import re
import unicodedata

_ALPHABETS = {
    "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "hi": "DEVANAGARI", "mr": "DEVANAGARI",
    "ne": "DEVANAGARI", "bn": "BENGALI", "gu": "GUJARATI", "pa": "GURMUKHI",
    "ta": "TAMIL", "te": "TELUGU", "kn": "KANNADA", "ml": "MALAYALAM", "th": "THAI", "ko": "HANGUL",
    "ru": "CYRILLIC", "bg": "CYRILLIC", "uk": "CYRILLIC",
    "el": "GREEK", "he": "HEBREW", "zh": "CJK", "zh-cn": "CJK", "zh-tw": "CJK", "ja": "HIRAGANA",
}  # fmt: skip
"""Language -> the script that its letters have in Unicode's names."""
_WORDS = {
    "en": "the of and to in is that it for was on are with as be this have from you not",
    "es": "el la de que y en los se del las un por con no una su para es al lo",
    "pt": "o a de que e do da em um para com não uma os no se na por mais as",
    "fr": "le la de et les des en un une du est que qui dans pour pas au sur ne ce",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als",
    "it": "il di che e la in un a per è una non sono con del della si da le come",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als dan",
    "sv": "och i att det som en på är av för med till den har de inte om ett han men",
    "fi": "ja on ei se että hän oli mutta ovat kun niin myös joka tai kuin sen jos tämä ole ne",
    "pl": "i w na z się nie do że to jest o jak za od po co ale przez tym tak",
    "vi": "và của là có không được cho trong một các với người này để những khi đã từ ở cũng",
    "tr": "ve bir bu da de için ile çok ne gibi daha olarak kadar olan ama sonra en var o her",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada mereka",
    "sw": "ya na wa kwa ni la katika za kama hii cha yake huo kuwa sana hiyo watu vya pia lakini",
    "ro": "și de în a la cu nu pe care este din o un că mai se pentru sunt ce fi",
    "cs": "a se na v je že to s z do o i jako za by ale po jsou pro byl",
    "da": "og i at det er en til på som med for af den de har ikke et jeg men der",
    "no": "og i det er på som en til for av at med har de ikke den et om så men",
    "hu": "a az és hogy nem is egy ez de meg van volt csak mint már ha el még azt én",
    "tl": "ang ng sa na mga at ay ito hindi ko siya para kung ni niya si isang may kanyang",
}
"""Language -> its most frequent words."""
_FORMS = {language: frozenset(words.split()) for language, words in _WORDS.items()}


def is_language(text: str, language: str) -> bool:
    """Whether a text is in a language (ISO 639-1). A text without letters is in none.

    For a language of its own script: most letters are of that script. Else: no other language of the Latin
    script has more frequent words in it.

    Raises:
        ValueError: the language is not known.
    """
    language = language.lower()
    if language not in _ALPHABETS and language not in _FORMS:
        raise ValueError(f"language {language!r} is not known")
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return False
    if language in _ALPHABETS:
        script = _ALPHABETS[language]
        share = sum(script in unicodedata.name(letter, "") for letter in letters) / len(letters)
        return share > (0.1 if language == "ja" else 0.5)  # Japanese mixes three scripts
    if sum("LATIN" in unicodedata.name(letter, "") for letter in letters) <= len(letters) / 2:
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {known: sum(word in forms for word in words) for known, forms in _FORMS.items()}
    return counts[language] == max(counts.values())
