# ruff: noqa: RUF001 (letters of different scripts look alike, which is the point)
"""Make up text that looks real in many scripts, from word lists or from syllables."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Script:
    """Syllables of a script, each a head and a tail, and the signs between words and after a sentence."""

    heads: Sequence[str]
    tails: Sequence[str]
    syllables: tuple[int, int] = (1, 4)
    space: str = " "
    comma: str = ","
    stop: str = "."
    right_to_left: bool = False


def _parts(listing: str) -> list[str]:
    """Split a list at its spaces, where `_` is an empty part; a list without spaces into letters."""
    return ["" if part == "_" else part for part in (listing.split() if " " in listing else listing)]


def _common(codec: str, first: int, last: int) -> list[str]:
    """Return the commonest characters of a language: the first rows of its national character set."""
    places = ((row, cell) for row in range(first, last + 1) for cell in range(1, 95))
    return [bytes((row + 160, cell + 160)).decode(codec) for row, cell in places]


_LATIN = "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl gr pl pr qu sch sh st str th tr"
_KANA = [chr(code) for code in range(0x3042, 0x3094) if code not in (0x3043, 0x3045, 0x3047, 0x3049, 0x3063)]
_KANJI = _common("euc_jp", 16, 46)

SCRIPTS: dict[str, Script] = {
    "english": Script(_parts(_LATIN), _parts("a e i o u ea ou an en in on er or al es")),
    "latin": Script(
        _parts(_LATIN + " č š ž ł ń ç ř ğ ş ť ň ś"),
        _parts("a e i o u á é í ó ú à è ä ö ü å ø æ ê ô ã õ ő ű ą ę ı ů y"),
    ),
    "vietnamese": Script(
        _parts("b c ch d đ g gi h kh l m n ng nh ph qu r s t th tr v x"),
        _parts("a ă â e ê i o ô ơ u ư ạ ả ấ ầ ậ ắ ế ề ể ệ ị ỏ ố ồ ộ ớ ờ ợ ủ ứ ừ ự ương iên uyết ành ông anh"),
        syllables=(1, 1),
    ),
    "cyrillic": Script(_parts("б в г д ж з к л м н п р с т ф х ц ч ш щ"), _parts("а е и о у ы ю я ой ість ий ё ь ъ э")),
    "greek": Script(
        _parts("β γ δ ζ θ κ λ μ ν ξ π ρ σ τ φ χ ψ"), _parts("α ε η ι ο υ ω ά έ ή ί ό ύ ώ ας ος ης αι ου ει")
    ),
    "armenian": Script("բգդզթժլխծկհձմնշչպջռսվտրցփք", "աեիոուէ", stop="։"),
    "georgian": Script("ბგდვზთკლმნპჟრსტფქღყშჩცძწჭხჯჰ", "აეიოუ"),
    "hebrew": Script("אבגדהוזחטיכלמנסעפצקרשת", [""], (2, 6), right_to_left=True),
    "arabic": Script("ابتثجحخدذرزسشصضطظعغفقكلمنهوي", _parts("_ _ ا ي و"), (2, 4), comma="،", right_to_left=True),
    "devanagari": Script("कखगघचछजटडतथदधनपबभमयरलवशसह", _parts("_ _ ा ि ी ु े ो ं ्र ्य"), (2, 4), stop="।"),
    "bengali": Script("কখগঘচছজটডতথদধনপবভমযরলশসহ", _parts("_ _ া ি ী ু ে ো ্র"), (2, 4), stop="।"),
    "tamil": Script("கசடதபறஙஞணநமனயரலவழள", _parts("_ _ ா ி ீ ு ெ ் ்"), (2, 5)),
    "thai": Script(
        [lead + head for lead in _parts("_ _ เ แ โ ไ") for head in "กขคงจชซดตถทนบปผพฟมยรลวสหอ"],
        _parts("_ า ี ิ ุ ู ่ ้ น ง ม"),
        syllables=(4, 10),
        comma="",
        stop="",
    ),
    "chinese": Script(_common("gb2312", 16, 54), [""], (2, 7), space="", comma="，", stop="。"),
    "japanese": Script([*_KANA * 20, *_KANJI], [""], (3, 9), space="", comma="、", stop="。"),
    "korean": Script(_common("euc_kr", 16, 40), [""], (2, 5)),
    "digits": Script("0123456789", [""], (2, 6)),
}


def word(random: Random, script: str, lists: Sequence[Sequence[str]] = ()) -> str:
    """A word of one of the lists, else one made of syllables."""
    if lists and (words := random.choice(lists)):
        return min(random.choice(words), random.choice(words), key=len)
    rules = SCRIPTS[script]
    return "".join(
        random.choice(rules.heads) + random.choice(rules.tails) for _ in range(random.randint(*rules.syllables))
    )


def figure(random: Random) -> str:
    """A number as documents and interfaces show it."""
    number = random.choice(
        (random.randrange(10), random.randrange(100), random.randrange(10_000), random.random() * 1e6)
    )
    return random.choice(
        (
            f"{number:.0f}",
            f"{number:,.2f}",
            f"{number:.1f}%",
            f"${number:,.2f}",
            f"€ {number:.2f}",
            f"−{number:.1f}",
            f"{random.randrange(24):02d}:{random.randrange(60):02d}",
            f"{random.randint(1990, 2030)}-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}",
            f"{random.randint(1, 28)}/{random.randint(1, 12)}/{random.randint(1990, 2030)}",
            f"+{random.randint(1, 99)} {random.randint(100, 999)} {random.randint(1000, 9999)}",
            f"v{random.randrange(10)}.{random.randrange(30)}.{random.randrange(10)}",
            f"{number:.0f} km",
            f"#{random.randrange(1 << 24):06X}",
        )
    )


def sentence(random: Random, script: str, lists: Sequence[Sequence[str]] = (), words: int = 9) -> list[str]:
    """Words of a sentence, with a capital, commas, a few figures and a stop."""
    rules = SCRIPTS[script]
    result = [
        figure(random) if random.random() < 0.05 else word(random, script, lists)
        for _ in range(random.randint(max(1, words // 2), words * 3 // 2))
    ]
    result = [one + rules.comma if random.random() < 0.08 else one for one in result]
    result[0] = result[0][:1].upper() + result[0][1:] if script != "georgian" else result[0]
    result[-1] = result[-1].removesuffix(rules.comma) + random.choice(
        (rules.stop, rules.stop, rules.stop, "!", "?", ":")
    )
    return result
