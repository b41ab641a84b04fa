"""Text of the data on its way into a page, where it may be anything and must act as nothing.

All that comes out is ASCII, so that no choice of an encoding changes what a page says.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from trajweight.analysis.excerpts import inert


def text_of(value: object) -> str:
    r"""Text of the data as HTML: on one line, controls written out, markup escaped.

    Example:
        >>> text_of("<b>\x1b")
        '&lt;b&gt;\\x1b'
    """
    return escaped(inert(str(value)))


def escaped(text: str) -> str:
    """Text as HTML, inside of an element or between the quotes of an attribute.

    Example:
        >>> escaped("d\u00e9j\u00e0 <vu>")
        'd&#233;j&#224; &lt;vu&gt;'
    """
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()


def as_script_data(value: Any) -> str:
    r"""JSON that may stand inside of a script element: no text in it can end the element.

    Example:
        >>> as_script_data(["</script><!--"])
        '["\\u003c/script\\u003e\\u003c!--"]'
    """
    # only ASCII, so lone surrogates and line separators are written out too
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
