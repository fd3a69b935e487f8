"""What a plain scalar is: its value as Docker Compose reads it, and whether YAML 1.1 and 1.2 read it differently."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder import messages

if TYPE_CHECKING:
    from builder.messages import Text

Scalar = str | int | float | bool | None

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASES: Final = tuple(
    (re.compile(pattern), base)
    for pattern, base in (
        (r"[-+]?0o?[0-7]+", 8),
        (r"[-+]?0[xX][0-9a-fA-F]+", 16),
        (r"[-+]?0[bB][01]+", 2),
    )
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST: Final = 400  # digits; beyond that it is no number anybody means

# The first row that matches names the reason. Only what the two versions of YAML read differently is here.
_AMBIGUOUS: Final[tuple[tuple[re.Pattern[str], Text], ...]] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF", messages.YAML_BOOL),
        (r"[-+]?0[0-9]+", messages.YAML_OCTAL),
        (r"[-+]?0o[0-7]+", messages.YAML_OCTAL),
        (r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", messages.YAML_BASE60),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?", messages.YAML_DATE),
        (r"[-+]?0[bB][01_]+", messages.YAML_NUMBER),
        (r"[-+]0[xX][0-9a-fA-F_]+|0[xX][0-9a-fA-F]*_[0-9a-fA-F_]*|0X[0-9a-fA-F]+", messages.YAML_NUMBER),
        (r"[-+]?(?=[0-9.]*_)[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?", messages.YAML_UNDERSCORE),
        (r"[-+]?\.[0-9]+([eE][0-9]+)?", messages.YAML_NUMBER),
        (r"[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]+\.[0-9]*[eE][0-9]+", messages.YAML_NUMBER),
    )
)


def ambiguity(text: str) -> Text | None:
    """Why a plain scalar should be quoted; None when every reader of YAML agrees on it."""
    return next((reason for pattern, reason in _AMBIGUOUS if pattern.fullmatch(text)), None)


def resolve(text: str) -> Scalar:
    """The value of a plain scalar: YAML 1.2, and Compose's leniency for `0644`, `0b1` and `1_000`."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in "+-.0123456789" or len(text) > _LONGEST:
        return text
    return _number(text.replace("_", "") if text[0] != "." else text, text)


def _number(digits: str, text: str) -> Scalar:
    if _DECIMAL.fullmatch(digits):
        return int(digits)
    for pattern, base in _OTHER_BASES:
        if pattern.fullmatch(digits):
            return int(digits.lower().replace("0o", "0", 1), base)
    return float(digits) if _FLOAT.fullmatch(digits) else text
