"""The vocabulary of goals: which English words ask for what, and which say nothing about the work."""

from typing import Final

FUNCTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("mean", "means", "average", "averages", "averaged", "avg"), "mean"),
    **dict.fromkeys(("sum", "sums", "total", "totals"), "sum"),
    **dict.fromkeys(("count", "counts"), "count"),
    **dict.fromkeys(("min", "minimum", "minima", "lowest", "smallest", "least"), "min"),
    **dict.fromkeys(("max", "maximum", "maxima", "highest", "largest", "greatest", "biggest"), "max"),
    **dict.fromkeys(("median", "medians"), "median"),
    **dict.fromkeys(("stddev", "std", "stdev"), "stddev"),
}
DESCENDING: Final = frozenset({"top", "highest", "largest", "greatest", "biggest", "most", "max", "maximum", "best"})
ASCENDING: Final = frozenset({"bottom", "lowest", "smallest", "least", "min", "minimum", "fewest"})
NUMBER_WORDS: Final[dict[str, int]] = {
    word: number
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), 1
    )
}

_ROW_NOUNS_WORDS: Final = """
    rows row records record lines entries entry observations observation samples sample items measurements readings
    cases instances examples data
    """
ROW_NOUNS: Final = frozenset(_ROW_NOUNS_WORDS.split())
COMPARE: Final = frozenset({"compare", "comparing", "comparison", "contrast", "versus", "vs", "difference", "differ"})
WRITE: Final = frozenset({"write", "save", "store", "export", "put", "output", "create", "generate", "produce", "make"})
GROUP: Final[tuple[tuple[str, ...], ...]] = (
    ("grouped", "by"), ("group", "by"), ("broken", "down", "by"), ("split", "by"),
    ("for", "each"), ("for", "every"), ("in", "each"), ("in", "every"), ("of", "each"), ("of", "every"),
    ("by", "each"), ("per",), ("by",), ("each",), ("every",),
)  # fmt: skip
ALL_FILES: Final[tuple[tuple[str, ...], ...]] = tuple(
    (first, *middle, last)
    for first in ("each", "every", "both", "all")
    for middle in ((), ("of", "the"), ("the",), ("input",), ("of", "the", "input"))
    for last in ("file", "files", "inputs", "input", "tables", "table")
    if (*middle, last) != ("input", "input")
)
FILTER_STARTS: Final = frozenset({"where", "with", "whose", "for", "when", "having", "if", "only", "while"})

OPERATORS: Final[tuple[tuple[tuple[str, ...], str], ...]] = tuple(
    (tuple(phrase.split()), operator)
    for phrase, operator in (
        ("is not equal to", "!="), ("is different from", "!="), ("not equal to", "!="), ("is not", "!="),
        ("are not", "!="), ("isn't", "!="), ("!=", "!="), ("<>", "!="), ("≠", "!="),
        ("greater than or equal to", ">="), ("more than or equal to", ">="), ("at least", ">="),
        ("no less than", ">="), ("not less than", ">="), ("not below", ">="), (">=", ">="), ("=>", ">="), ("≥", ">="),
        ("less than or equal to", "<="), ("at most", "<="), ("no more than", "<="), ("not more than", "<="),
        ("up to", "<="), ("not above", "<="), ("<=", "<="), ("=<", "<="), ("≤", "<="),
        ("greater than", ">"), ("more than", ">"), ("higher than", ">"), ("larger than", ">"), ("bigger than", ">"),
        ("above", ">"), ("over", ">"), ("exceeds", ">"), ("exceeding", ">"), ("after", ">"), (">", ">"),
        ("less than", "<"), ("fewer than", "<"), ("lower than", "<"), ("smaller than", "<"), ("below", "<"),
        ("under", "<"), ("before", "<"), ("<", "<"),
        ("contains", "contains"), ("containing", "contains"), ("equal to", "=="), ("equals", "=="), ("equal", "=="),
        ("equalling", "=="), ("==", "=="), ("=", "=="),
    )
)  # fmt: skip
SUFFIX_OPERATORS: Final[dict[str, str]] = {
    **dict.fromkeys(("more", "higher", "above", "greater", "larger", "better"), ">="),
    **dict.fromkeys(("less", "lower", "below", "fewer", "smaller"), "<="),
}

# Words that may stand anywhere without changing what is asked. A word that could change it ("without", "last",
# "weighted") is missing here on purpose: it stays unmatched, and the answer is `cannot`.
_SILENT_WORDS: Final = """
    a an and also all another any are as at be been between both but can could data dataset did do does each entire find
    following for from get give given has have having how i in into is it its itself know let's like list me my need now
    number of on one our out over overall please print report result results return say see shall she show table tables
    tell that the their them then there these they this those to two us using value values want was we well were what
    what's whats which whole will with within would you your column columns field fields file files calculate calculated
    compute computed determine evaluate display work csv json
    answer short brief small summary markdown text simple input
    inputs recorded measured observed names named called help could show across respective respectively separately
    would along where's there's
    """
SILENT: Final = frozenset(_SILENT_WORDS.split())

_OTHERS_WORDS: Final = """
    many much different distinct unique top bottom first most not or where by per every which when whose if only highest
    lowest more less than least use run tool describe profile rows than equal
    """
OTHERS: Final = frozenset(_OTHERS_WORDS.split())

VOCABULARY: Final = (
    frozenset(FUNCTIONS) | DESCENDING | ASCENDING | frozenset(NUMBER_WORDS) | ROW_NOUNS | COMPARE | WRITE | SILENT
    | OTHERS | FILTER_STARTS | {word for phrase, _ in OPERATORS for word in phrase} | frozenset(SUFFIX_OPERATORS)
)  # fmt: skip
