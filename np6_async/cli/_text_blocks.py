"""The text of a file in blocks, as it is or out of gzip."""

from __future__ import annotations

import os
import zlib
from typing import Final

from ._messages import BadInput

_MAGIC: Final = b"\x1f\x8b"  # no text begins so: the second byte is not UTF-8
_GZIP: Final = 16 + zlib.MAX_WBITS


class TextBlocks:
    """Reads a descriptor from where it is, and unpacks what begins as gzip does, whatever its name; never closes it.

    A block is `size` bytes at most, however well it was compressed.
    """

    def __init__(self, fd: int, name: str, size: int) -> None:
        self._fd = fd
        self._name = name
        self._size = size
        self._begun = False
        self._packed = b""  # read, and not unpacked yet
        self._gzip: zlib._Decompress | None = None

    def read(self) -> bytes:
        """The next block; empty at the end. Blocks.

        Raises OSError, and `BadInput` where gzip is damaged or ends too early: what came before was in the file.
        """
        if not self._begun:
            self._begun = True
            while len(self._packed) < len(_MAGIC) and (block := os.read(self._fd, self._size)):
                self._packed += block  # a pipe may bring a byte at a time
            if not self._packed.startswith(_MAGIC):
                block, self._packed = self._packed, b""
                return block
            self._gzip = zlib.decompressobj(_GZIP)
        return os.read(self._fd, self._size) if self._gzip is None else self._unpack(self._gzip)

    def _unpack(self, gzip: zlib._Decompress) -> bytes:
        while True:
            if gzip.eof:
                # A file may have several members, one after the other, and zeros at its end.
                self._packed = gzip.unused_data.lstrip(b"\0") or self._read_after_zeros()
                if not self._packed:
                    return b""
                gzip = self._gzip = zlib.decompressobj(_GZIP)
            elif not self._packed:
                self._packed = os.read(self._fd, self._size)
                if not self._packed:
                    raise BadInput(f"{self._name} is cut off: its gzip ends too early, and contacts may be missing")
            try:
                block = gzip.decompress(self._packed, self._size)
            except zlib.error:
                raise BadInput(f"{self._name} is damaged: gzip cannot unpack it to its end") from None
            self._packed = gzip.unconsumed_tail
            if block:
                return block

    def _read_after_zeros(self) -> bytes:
        while block := os.read(self._fd, self._size):
            if block := block.lstrip(b"\0"):
                return block
        return b""
