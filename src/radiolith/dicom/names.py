"""Person names as people search them: parts, folding and sound (PS3.5 6.2.1, PS3.4 C.2.2.2.1).

Owns: the two reductions. `fold` makes spellings of one name equal: Müller = Mueller = Muller, Lefèvre = Lefevre,
Jean-Pierre = Jean Pierre, Иванов = Ivanov, ﾔﾏﾀﾞ = やまだ. `phonetic` makes names equal that sound alike in German,
French, English and transliterated Cyrillic: Meier = Mayer = Maier, Schmidt = Schmitt, Petrow = Petrov = Petroff.
Must never: change what is shown; both are for comparing only, the same on the stored and on the asked side. Both are
idempotent on the separators and wildcards '^ = \\ * ?', so that queries can be folded as they are. Time is linear in
the length.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

GROUPS = ("alphabetic", "ideographic", "phonetic")
PARTS = ("family", "given", "middle", "prefix", "suffix")


def _table(rows: str) -> dict[str, str]:
    """Words of which the first letter is to become the rest."""
    return {row[0]: row[1:] for row in rows.split()}


# Letters that do not decompose. What has two spellings takes the longer one, which is then contracted.
_LATIN = _table("äae öoe üue æae œoe øoe åaa ßss þth ðd đd łl ıi ħh ŋng ĸk ŧt əe")

_CYRILLIC = _table(
    "аa бb вv гg дd еe ёe жzh зz иi йy кk лl мm нn оo пp рr сs тt уu фf хkh цts чch шsh щshch ъ ыy ь эe юyu яya "
    "іi їyi єye ґg ўu ѓg қk ќk ђdj ћc јj љlj њnj џdz ѕdz"
)

_GREEK = _table("αa βv γg δd εe ζz ηi θth ιi κk λl μm νn ξx οo πp ρr σs ςs τt υy φf χch ψps ωo")
_GREEK_U = re.compile("[οό][υύ]")

_ARABIC = {"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه", "ـ": ""}

# Variants of the same character in Japanese family names, which NFKC leaves apart
_KANJI = dict(zip("髙﨑邊邉齋齊斎濱濵澤櫻國廣嶋嶌眞槇栁", "高崎辺辺斉斉斉浜浜沢桜国広島島真槙柳", strict=True))

_PUNCTUATION = {
    **dict.fromkeys("-‐‑‒–—_.,;/\u30fb\u00b7", " "),
    **dict.fromkeys("'’‘`´ʼʹʺ\"", ""),
}

_KATAKANA = {chr(code): chr(code - 0x60) for code in range(0x30A1, 0x30F7)}

_LETTERS = str.maketrans({**_LATIN, **_CYRILLIC, **_GREEK, **_ARABIC, **_KANJI, **_KATAKANA, **_PUNCTUATION})
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
_SPACES = re.compile(r"\s+")
_AROUND = re.compile(r" ?([\^=\\]) ?")

# German and Scandinavian digraphs become what remains when somebody just leaves the dots away. 'ue' behind a vowel
# or q is no umlaut (Bauer, Neuer, Jacques); 'aa' is å.
_DIGRAPHS = re.compile(r"(?<=[ao])e+|(?<=(?<![aeiouyq])u)e+|(?<=a)a+")


def groups(name: str) -> list[str]:
    """The component groups of a person name, at most three: alphabetic, ideographic, phonetic."""
    return [group.rstrip("^ ") for group in name.split("=", 2)]


def parts(group: str) -> list[str]:
    """Family name, given name, middle name, prefix and suffix of one component group; trailing empty ones are left
    out."""
    found = [part.strip() for part in group.split("^", 4)]
    while found and not found[-1]:
        found.pop()
    return found


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """The form of a name in which its spellings are equal; words stay apart by one blank."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if not text.isascii():
        text = _GREEK_U.sub("ou", unicodedata.normalize("NFC", text)).translate(
            _LETTERS
        )  # letters with a spelling of their own: ä, й
        text = _MARKS.sub("", unicodedata.normalize("NFD", text))  # then accents are only accents
        text = unicodedata.normalize("NFC", text)
    text = text.translate(_LETTERS)
    text, changed = _DIGRAPHS.subn("", text)
    while changed:  # 'aeae' is 'aa' first; at most three rounds
        text, changed = _DIGRAPHS.subn("", text)
    text = _SPACES.sub(" ", text).strip()
    return _AROUND.sub(r"\1", text)


def name_keys(name: str) -> list[str]:
    """The folded component groups of a person name ('family^given^middle'), without empty ones and repetitions."""
    keys: list[str] = []
    for group in groups(name):
        key = fold(group).rstrip("^ ")
        if key and key not in keys:
            keys.append(key)
    return keys


# ---------------------------------------------------------------- sound

# Applied in order to a folded word; capitals are final codes, 0 is a vowel or semivowel.
# P: p b · F: f v w · T: d t · K: k g q hard c and ch · S: all sibilants · L M N R
_SOUNDS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), code)
    for pattern, code in (
        (r"(eaux?|aul?[dtx]s?|ots?)$", "0"),  # Renault, Renaud, Moreau, Peugeot
        (r"^wr", "R"),
        (r"ght", "T"),
        (r"s?chtsch|shch|stsch|tsch|dsch|dzh|tch|tsh|sch|sh|zh|sz|cz|tz|ts", "S"),
        (r"^ch(?=[aeiuy])", "S"),  # Chen, Charles, Chernov; not Christian
        (r"ch|kh|gh|ck|cq|qu?", "K"),
        (r"ph|pf", "F"),
        (r"th|dt", "T"),
        (r"bv", "F"),  # Lefebvre
        (r"x", "KS"),
        (r"s?c(?=[eiy])|[sz]", "S"),
        (r"[ckg]", "K"),
        (r"[bp]", "P"),
        (r"[fvw]", "F"),
        (r"[dt]", "T"),
        (r"[aeiouyjh]+", "0"),
        (r"[lmnr]", ""),  # replaced by their capitals, see _sound
    )
]
_REPEATED = re.compile(r"(.)\1+")
_LATIN_WORD = re.compile(r"[a-z]+")


@lru_cache(maxsize=4096)
def phonetic(text: str) -> str:
    """The sound of each word of a name, joined by blanks; words that are not written in letters stay as folded.

    Codes are short (Schmidt: SMT), so compare words only with words, never as prefixes.
    """
    return " ".join(_sound(word) for word in re.split(r"[ ^=\\]+", fold(text)) if word)


def _sound(word: str) -> str:
    if not _LATIN_WORD.fullmatch(word):
        return word
    for pattern, code in _SOUNDS:
        word = pattern.sub(code, word) if code else word.upper()
    word = _REPEATED.sub(r"\1", word)
    return word[0] + word[1:].replace("0", "")
