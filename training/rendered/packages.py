"""Tables of the Debian packages that rendered pictures take their fonts, icons and words from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Font:
    """A family, the scripts that it covers, and the package that installs it."""

    family: str
    style: str
    scripts: tuple[str, ...]
    package: str


@dataclass(frozen=True)
class Folder:
    """A glob of SVG files or a word list of one language, and the package that installs it."""

    pattern: str
    package: str


def _fonts(package: str, scripts: str, **families: str) -> tuple[Font, ...]:
    """List the fonts of one package: families by style, separated by commas."""
    return tuple(
        Font(family.strip(), style, tuple(scripts.split()), package)
        for style, names in families.items()
        for family in names.split(",")
    )


def _clip_art(subjects: str) -> tuple[Folder, ...]:
    return tuple(Folder(f"/usr/share/openclipart/svg/{one}/**/*.svg", "openclipart-svg") for one in subjects.split())


_ASCII = "english"
_LATIN = "english latin"
_VIET = "english latin vietnamese"
_EURO = "english latin cyrillic greek"
_ALL = "english latin vietnamese cyrillic greek"

FONTS: tuple[Font, ...] = (
    *_fonts("fonts-anonymous-pro", _EURO, mono="Anonymous Pro"),
    *_fonts("fonts-averia-sans-gwf", _ASCII, display="Averia Sans GWF"),
    *_fonts("fonts-averia-serif-gwf", _ASCII, serif="Averia Serif GWF"),
    *_fonts("fonts-b612", _ASCII, sans="B612", mono="B612 Mono"),
    *_fonts("fonts-bebas-neue", "english latin", display="Bebas Neue"),
    *_fonts("fonts-breip", _ASCII, hand="Breip"),
    *_fonts("fonts-cabin", _ASCII, sans="Cabin"),
    *_fonts("fonts-cabinsketch", _ASCII, display="Cabin Sketch"),
    *_fonts("fonts-cantarell", _ALL, sans="Cantarell"),
    *_fonts("fonts-cherrybomb", _VIET, display="Cherry Bomb"),
    *_fonts("fonts-cmu", _EURO, serif="CMU Serif, CMU Concrete", sans="CMU Sans Serif", mono="CMU Typewriter Text"),
    *_fonts("fonts-comfortaa", _ALL, display="Comfortaa"),
    *_fonts("fonts-comic-neue", _LATIN, hand="Comic Neue"),
    *_fonts("fonts-courier-prime", _LATIN, mono="Courier Prime"),
    *_fonts("fonts-croscore", _ALL + " hebrew", sans="Arimo", serif="Tinos", mono="Cousine"),
    *_fonts("fonts-crosextra-caladea", _LATIN, serif="Caladea"),
    *_fonts("fonts-crosextra-carlito", _EURO, sans="Carlito"),
    *_fonts("fonts-dancingscript", _ASCII, hand="Dancing Script"),
    *_fonts("fonts-dejavu-core", _ALL, sans="DejaVu Sans", serif="DejaVu Serif"),
    *_fonts("fonts-dejavu-core", _EURO, mono="DejaVu Sans Mono"),
    *_fonts("fonts-dosis", _LATIN, sans="Dosis"),
    *_fonts("fonts-dseg", "digits", display="DSEG7 Classic, DSEG14 Modern"),
    *_fonts("fonts-ebgaramond", _ALL, serif="EB Garamond"),
    *_fonts("fonts-firacode", _EURO, mono="Fira Code"),
    *_fonts("fonts-gfs-didot", "english latin greek", serif="GFS Didot"),
    *_fonts("fonts-hack", _EURO, mono="Hack"),
    *_fonts("fonts-hosny-amiri", "arabic", serif="Amiri"),
    *_fonts("fonts-humor-sans", _ASCII, hand="Humor Sans"),
    *_fonts("fonts-inconsolata", _LATIN, mono="Inconsolata"),
    *_fonts("fonts-inter", _ALL, sans="Inter"),
    *_fonts("fonts-jetbrains-mono", _ALL, mono="JetBrains Mono"),
    *_fonts("fonts-junicode", _VIET, serif="Junicode Two Beta"),
    *_fonts("fonts-kaushanscript", _LATIN, hand="Kaushan Script"),
    *_fonts("fonts-kristi", _ASCII, hand="Kristi"),
    *_fonts("fonts-lato", _ALL, sans="Lato"),
    *_fonts("fonts-liberation", _EURO, sans="Liberation Sans, Liberation Sans Narrow", serif="Liberation Serif"),
    *_fonts("fonts-liberation", _EURO, mono="Liberation Mono"),
    *_fonts("fonts-lindenhill", _LATIN, serif="Linden Hill"),
    *_fonts("fonts-linuxlibertine", _ALL + " hebrew", serif="Linux Libertine O", sans="Linux Biolinum O"),
    *_fonts("fonts-lobster", _LATIN, display="Lobster Two"),
    *_fonts("fonts-lohit-deva", "devanagari", sans="Lohit Devanagari"),
    *_fonts("fonts-mplus", "english latin japanese", sans="M PLUS 1, M PLUS 2"),
    *_fonts("fonts-nanum", "korean", sans="NanumGothic, NanumBarunGothic, NanumSquareRound", serif="NanumMyeongjo"),
    *_fonts("fonts-noto-cjk", "chinese", sans="Noto Sans CJK SC, Noto Sans CJK TC", serif="Noto Serif CJK SC"),
    *_fonts("fonts-noto-cjk", "japanese", sans="Noto Sans CJK JP", serif="Noto Serif CJK JP"),
    *_fonts("fonts-noto-cjk", "korean", sans="Noto Sans CJK KR", serif="Noto Serif CJK KR"),
    *_fonts("fonts-noto-core", _ALL, sans="Noto Sans", serif="Noto Serif, Noto Serif Display"),
    *_fonts("fonts-noto-core", "arabic", sans="Noto Sans Arabic, Noto Kufi Arabic", serif="Noto Naskh Arabic"),
    *_fonts("fonts-noto-core", "arabic", hand="Noto Nastaliq Urdu"),
    *_fonts("fonts-noto-core", "armenian", sans="Noto Sans Armenian", serif="Noto Serif Armenian"),
    *_fonts("fonts-noto-core", "bengali", sans="Noto Sans Bengali", serif="Noto Serif Bengali"),
    *_fonts("fonts-noto-core", "devanagari", sans="Noto Sans Devanagari", serif="Noto Serif Devanagari"),
    *_fonts("fonts-noto-core", "georgian", sans="Noto Sans Georgian", serif="Noto Serif Georgian"),
    *_fonts("fonts-noto-core", "hebrew", sans="Noto Sans Hebrew", serif="Noto Serif Hebrew, Noto Rashi Hebrew"),
    *_fonts("fonts-noto-core", "tamil", sans="Noto Sans Tamil", serif="Noto Serif Tamil"),
    *_fonts("fonts-noto-core", "thai", sans="Noto Sans Thai, Noto Looped Thai", serif="Noto Serif Thai"),
    *_fonts("fonts-ocr-a", _ASCII, mono="OCRA"),
    *_fonts("fonts-oldstandard", _EURO, serif="Old Standard TT"),
    *_fonts("fonts-open-sans", _EURO, sans="Open Sans, Open Sans Condensed"),
    *_fonts("fonts-opendyslexic", _LATIN, display="OpenDyslexic"),
    *_fonts("fonts-play", _EURO, sans="Play"),
    *_fonts("fonts-quattrocento", _ASCII, serif="Quattrocento"),
    *_fonts("fonts-quicksand", _VIET, sans="Quicksand"),
    *_fonts("fonts-roadgeek", _ASCII, display="Roadgeek 2014 Series C, Roadgeek 2014 Series E"),
    *_fonts("fonts-roboto-unhinted", _ALL, sans="Roboto, Roboto Condensed"),
    *_fonts("fonts-rufscript", _ASCII, hand="Rufscript"),
    *_fonts("fonts-sil-andika", _VIET + " cyrillic", sans="Andika"),
    *_fonts("fonts-sil-gentium", "english latin vietnamese greek", serif="Gentium"),
    *_fonts("fonts-texgyre", _LATIN, sans="TeX Gyre Adventor, TeX Gyre Heros, TeX Gyre Heros Cn"),
    *_fonts("fonts-texgyre", _LATIN, serif="TeX Gyre Bonum, TeX Gyre Pagella, TeX Gyre Schola, TeX Gyre Termes"),
    *_fonts("fonts-texgyre", _LATIN, hand="TeX Gyre Chorus", mono="TeX Gyre Cursor"),
    *_fonts("fonts-tlwg-garuda-ttf", "thai", sans="Garuda"),
    *_fonts("fonts-tlwg-norasi-ttf", "thai", serif="Norasi"),
    *_fonts("fonts-tlwg-purisa-ttf", "thai", hand="Purisa"),
    *_fonts("fonts-tomsontalks", _ASCII, hand="Tomson Talks"),
    *_fonts("fonts-vollkorn", _ALL, serif="Vollkorn"),
    *_fonts("fonts-wqy-zenhei", "chinese", sans="WenQuanYi Zen Hei"),
    *_fonts("fonts-yanone-kaffeesatz", _VIET, display="Yanone Kaffeesatz"),
    *_fonts("fonts-yusei-magic", "japanese", hand="Yusei Magic"),
)

ICONS: tuple[Folder, ...] = (
    Folder("/usr/share/icons/Adwaita/scalable/*/*.svg", "adwaita-icon-theme"),
    Folder("/usr/share/bootstrap-icons/svg/*.svg", "bootstrap-icons"),
    Folder("/usr/share/icons/breeze/*/22/*.svg", "breeze-icon-theme"),
    Folder("/usr/share/icons/breeze/*/32/*.svg", "breeze-icon-theme"),
    Folder("/usr/share/icons/breeze/*/48/*.svg", "breeze-icon-theme"),
    Folder("/usr/share/icons/breeze/*/64/*.svg", "breeze-icon-theme"),
    Folder("/usr/share/iso-flags-svg/country-4x3/??.svg", "iso-flags-svg"),
    Folder("/usr/share/icons/Numix/64/*/*.svg", "numix-icon-theme"),
    Folder("/usr/share/icons/Papirus/64x64/*/*.svg", "papirus-icon-theme"),
    Folder("/usr/share/icons/suru/*/scalable/*.svg", "suru-icon-theme"),
    Folder("/usr/share/icons/Tango/scalable/*/*.svg", "tango-icon-theme"),
)

CLIP_ART: tuple[Folder, ...] = _clip_art(
    "animals buildings computer education electronics food geography office people plants recreation science shapes "
    "signs_and_symbols special tools transportation"
)

WORDS: dict[str, tuple[Folder, ...]] = {
    "english": (Folder("/usr/share/dict/american-english", "wamerican"),),
    "latin": (
        Folder("/usr/share/dict/ngerman", "wngerman"),
        Folder("/usr/share/dict/french", "wfrench"),
        Folder("/usr/share/dict/polish", "wpolish"),
        Folder("/usr/share/dict/portuguese", "wportuguese"),
        Folder("/usr/share/dict/spanish", "wspanish"),
        Folder("/usr/share/dict/swedish", "wswedish"),
    ),
    "cyrillic": (Folder("/usr/share/dict/ukrainian", "wukrainian"),),
}

LICENCES: dict[str, str] = {
    "adwaita-icon-theme": "LGPL-3 or CC-BY-SA-3.0",
    "bootstrap-icons": "MIT",
    "breeze-icon-theme": "LGPL-3+",
    "fonts-b612": "OFL-1.1 and EPL-2.0",
    "fonts-breip": "OFL-1.0",
    "fonts-cantarell": "OFL-1.1",
    "fonts-crosextra-caladea": "Apache-2.0",
    "fonts-dejavu-core": "Bitstream-Vera and public domain",
    "fonts-hack": "MIT and Bitstream-Vera",
    "fonts-inconsolata": "OFL-1.0",
    "fonts-liberation": "GPL-2 with font exception",
    "fonts-lindenhill": "MIT",
    "fonts-linuxlibertine": "OFL-1.1 or GPL-2+ with font exception",
    "fonts-ocr-a": "public domain",
    "fonts-oldstandard": "OFL-1.0",
    "fonts-open-sans": "Apache-2.0",
    "fonts-opendyslexic": "CC-BY-3.0 and Bitstream-Vera",
    "fonts-roadgeek": "MIT",
    "fonts-roboto-unhinted": "Apache-2.0",
    "fonts-rufscript": "GPL-3+ with font exception",
    "fonts-texgyre": "GUST font licence",
    "fonts-tlwg-garuda-ttf": "GPL-2+ with font exception",
    "fonts-tlwg-norasi-ttf": "GPL-2+ with font exception",
    "fonts-tlwg-purisa-ttf": "GPL-2+ with font exception",
    "fonts-wqy-zenhei": "GPL-2 with font exception",
    "iso-flags-svg": "public domain",
    "numix-icon-theme": "GPL-3+",
    "openclipart-svg": "public domain",
    "papirus-icon-theme": "GPL-3",
    "suru-icon-theme": "CC-BY-SA-3.0",
    "tango-icon-theme": "public domain",
    "wamerican": "public domain",
    "wfrench": "GPL-2+",
    "wngerman": "GPL-2+",
    "wpolish": "GPL-2 or LGPL-2.1 or MPL-1.1 or Apache-2.0 or CC-BY-4.0",
    "wportuguese": "GPL-2+ or LGPL-2.1+ or MPL-1.1",
    "wspanish": "public domain",
    "wswedish": "GPL-2",
    "wukrainian": "GPL-2+ or LGPL-2+",
}
"""Licence of the contents of each package; fonts that are not named here have OFL-1.1."""


def licence(package: str) -> str:
    """Licence of what a package installs, as its debian/copyright says."""
    return LICENCES.get(package, "OFL-1.1")
