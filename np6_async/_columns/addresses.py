"""Where e-mail addresses are in texts: in sentences, in URLs, and in what mail servers say.

Too much is found rather than too little: what stands before an ``@`` may be of any characters that an address may have.
Each text is read in linear time, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

_SIGN: Final = "@\uff20\ufe6b"
_AT: Final = rf"(?:[{_SIGN}]|%(?:25)*40)"
# Of HTML and of JSON inside of text, where it is between other characters.
_ESCAPED_AT: Final = re.compile(r"(?<=[\w\"\\])(?:&#0*64;|&#x0*40;|&commat;|\\u0040)(?=[\w\[])", re.IGNORECASE)
_NO_ATOM: Final = rf"\s<>()\[\]\",;:{_SIGN}"
_ATOM: Final = rf"[^{_NO_ATOM}]"
_DOMAIN: Final = rf"(?:[^\x00-,/:-@\[-^`{{-\x7f\s{_SIGN}]|%[0-9a-f]{{2}})*"
_QUOTED: Final = r'"(?:[^"\\\r\n]|\\"?){0,64}"'
_MORE: Final = rf"(?:\.(?:[^.{_NO_ATOM}]+|{_QUOTED})){{0,8}}"
# Those that are no word: "jane doe"@example.com, jane(at home)@example.com
_ODD: Final = rf"(?:(?:{_ATOM}*\.)?{_QUOTED}{_MORE}|{_ATOM}*\([^()\r\n]{{0,256}}\)){_AT}{_DOMAIN}"
_URL: Final = r"(?:[a-z][a-z0-9+.\-]*://|mailto:)[^\s<>\"]*"
_PART: Final = re.compile(rf"(?P<odd>{_ODD})|(?P<url>{_URL})|(?:{_ATOM}|[{_SIGN}])+", re.IGNORECASE)
_FIND_AT: Final = re.compile(_AT)
_FIND_DOMAINS: Final = re.compile(rf"{_DOMAIN}(?:{_AT}{_DOMAIN})*", re.IGNORECASE)  # more than one: by way of a relay
_SIGN_ITSELF: Final = re.compile(rf"[{_SIGN}]")
# What separates the parts of a URL, also where it is the parameter of another; and what a parameter follows.
_SEPARATOR: Final = re.compile(r"([/?&#;,:|()\[\]{}]|%(?:25)*(?:2[36CF]|3[ABCEF]|7C))", re.IGNORECASE)
_BEFORE_NAME: Final = re.compile(r"[?&#;]|%(?:25)*(?:3F|26|23|3B)", re.IGNORECASE)
_EQUALS: Final = re.compile(r"=|%(?:25)*3D", re.IGNORECASE)
# What stands before ``=`` and an address in the words of mail servers and forms. Any other may be a part of it.
_NAME: Final = re.compile(
    "addr(?:ess)?|b?cc|contact|e-?mail|from|login|mail|orig_to|rcpt|recipient|reply-to|sender|to|user", re.IGNORECASE
)
_PUNCTUATION: Final = re.compile(r"[^\w+\-$!%]*")
_MOST_DECODED: Final = 4  # times, of a URL in a URL

# What a text holds in which an address is found; also for the patterns of Arrow, which are of RE2.
MAY_BE_ADDRESS: Final = r"@|%(25)*40|&#|&commat;|\\u0040|\x{ff20}|\x{fe6b}"

Replace = Callable[[str], str]


def replace_addresses(text: str, replace: Replace) -> str:
    """`text` with `replace` of each address in place of it; a part of a URL is decoded before."""
    if "@" not in text and "40" not in text and "&" not in text and text.isascii():
        return text  # the usual case, ten times as fast as a pattern
    if "&" in text or "\\u" in text:
        text = _ESCAPED_AT.sub("@", text)
    if _FIND_AT.search(text) is None:
        return text
    return _PART.sub(lambda part: _in_part(part, replace), text)


def _in_part(part: re.Match[str], replace: Replace) -> str:
    text = part[0]
    if part["odd"]:
        size = _trimmed(text)
        return replace(text[:size]) + text[size:]
    if _FIND_AT.search(text) is None:
        return text
    if part["url"] or text[0] in "/?&#" or _SIGN_ITSELF.search(text) is None:
        return _in_url(text, replace)
    return _in_word(text, replace)


def _in_url(url: str, replace: Replace) -> str:
    pieces = _SEPARATOR.split(url)
    for at in range(0, len(pieces), 2):
        piece = pieces[at]
        if _FIND_AT.search(piece) is None:
            continue
        name = ""
        if at and _BEFORE_NAME.fullmatch(pieces[at - 1]):
            equals = _EQUALS.search(piece)
            if equals and _FIND_AT.search(piece, 0, equals.end()) is None:
                name = piece[: equals.end()]
        pieces[at] = name + _in_word(piece[len(name) :], lambda address: replace(_decoded(address)))
    return "".join(pieces)


def _decoded(text: str) -> str:
    for _ in range(_MOST_DECODED):
        text = unquote(text)
    return text


def _in_word(word: str, replace: Replace) -> str:
    """Of a text without white space."""
    made = []
    begin = 0
    for at in _FIND_AT.finditer(word):
        if at.start() < begin:  # in the punctuation before an address
            continue
        first = _after(_PUNCTUATION, word, begin)
        if first >= at.start():
            made.append(word[begin:first])
            begin = first
            continue
        domain = word[at.end() : _after(_FIND_DOMAINS, word, at.end())]
        domain = domain[: _trimmed(domain)]
        made += [word[begin:first], _one(word[first : at.start()], domain, replace)]
        begin = at.end() + len(domain)
    return "".join([*made, word[begin:]])


def _one(local: str, domain: str, replace: Replace) -> str:
    """One address; before it there may be ``name=``, which a bounce address has, too: ``x+jane=example.com@y``."""
    *_, equals = [None, *_EQUALS.finditer(local)]
    first = 0 if equals is None else _after(_PUNCTUATION, local, equals.end())
    address = local[first:]
    if equals is None or not address:
        return replace(f"{local}@{domain}")
    name = local[: equals.start()]
    if not _NAME.fullmatch(name):
        name = replace(name)
    return name + local[equals.start() : first] + replace(f"{address}@{domain}")


def _after(pattern: re.Pattern[str], text: str, begin: int) -> int:
    found = pattern.match(text, begin)
    return found.end() if found else begin


def _trimmed(text: str) -> int:
    """Its length without punctuation at the end, other than an at sign."""
    size = len(text)
    while size and not text[size - 1].isalnum() and text[size - 1] not in _SIGN:
        size -= 1
    return size
