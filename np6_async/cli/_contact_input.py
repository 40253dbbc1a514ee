"""The contacts that a command line names: arguments, files and segments, read as they are asked for."""

from __future__ import annotations

import asyncio
import codecs
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from .. import Contact, EventKind, InvalidContact, NotFound, NP6Client, NP6Error
from ..export._disk import in_thread
from ._messages import BadInput, By, refusal
from ._text_blocks import TextBlocks

if TYPE_CHECKING:
    from ._command import Command

_BLOCK: Final = 64 * 1024
_MAX_LINE: Final = 16 * 1024
# How many seconds the rest of a pipe or a segment is waited for, to list its contacts: a pipe may have no end.
_REST: Final = 1.0


class ContactInput:
    """Opens the files, which `stack` closes; iterate it for each pass over all. Raises `BadInput`.

    Lines that are not contacts are left out, and count as failures of the command on the first pass. `client` reads
    the segments, and must be set before a pass. `hint` says what to do about such lines, other than to use `--by`.
    """

    client: NP6Client

    def __init__(
        self,
        command: Command,
        stack: ExitStack,
        option: str,
        paths: Sequence[str],
        *,
        by: By = "id",
        arguments: Sequence[Contact] = (),
        segments: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        output = getattr(command.options, "output", "-")
        files = [_open_file(option, path, paths, output, stack) for path in paths]
        self.by: By = by
        self.arguments = arguments
        self.segments = segments
        self.files = [(fd, name, _position(fd)) for fd, name in files]
        self._command = command
        self._hint = hint
        self._passes = 0

    @classmethod
    def of_options(cls, command: Command, stack: ExitStack) -> Self:
        """The contacts of a command that fetches their events."""
        options = command.options
        by: By = options.by or "id"
        arguments = _read_arguments(by, options.contacts)
        if options.only_ids:
            raise BadInput(
                "--only-ids goes with --account or --action: of contacts that are given, all events are kept"
            )
        if options.kind == EventKind.CANCELLATIONS:
            raise BadInput("--kind cancellations goes with --account or --action: NP6 has none by contact")
        if not arguments and not options.ids_from and not options.segment:
            raise BadInput(
                "no contacts: give some, a file of them with --ids-from, or a segment with --segment; or --account for "
                "the events of all contacts"
            )
        if options.segment and by != "id":
            raise BadInput(f"--segment gives ids: it cannot be combined with --by {by}")
        return cls(command, stack, "--ids-from", options.ids_from, by=by, arguments=arguments, segments=options.segment)

    @classmethod
    def of_ids(cls, command: Command, stack: ExitStack) -> Self:
        """The contacts of a command to which they are named by their ids."""
        options = command.options
        hint = f"np6 {options.command} takes the NP6 ids of contacts, such as 000MLGPR"
        arguments = _read_arguments("id", options.contacts, hint)
        if not arguments and not options.ids_from and not options.segment:
            raise BadInput("no contacts: give some, a file of them with --ids-from, or a segment with --segment")
        return cls(
            command, stack, "--ids-from", options.ids_from, arguments=arguments, segments=options.segment, hint=hint
        )

    @property
    def read_once(self) -> str | None:
        """The name of a file that can be read only once; None: there is none."""
        return next((name for _, name, begin in self.files if begin is None), None)

    @property
    def local(self) -> bool:
        """Whether all contacts can be read again without asking the server."""
        return self.read_once is None and not self.segments

    def __aiter__(self) -> ContactPass:
        self._passes += 1
        return ContactPass(self)

    async def count(self) -> int | None:
        """How many contacts there are; None where that is not known before they are read."""
        if not self.local:
            return None
        total = len(self.arguments)
        for fd, name, _ in self.files:
            with suppress(OSError, BadInput):  # it is read later, and the error reported then
                total += await in_thread(partial(_count_lines, TextBlocks(fd, name, 16 * _BLOCK)))
        return total

    # Later passes find the same.

    def refuse_line(self, message: str, hint: str) -> None:
        """A line is not a contact."""
        if self._passes == 1:
            self._command.failures.refuse_line(message, self._hint or hint)

    def report_empty(self, name: str) -> None:
        """There are no contacts in a file or a segment."""
        if self._passes == 1:
            self._command.say(f"{name} holds no contacts")


class ContactPass:
    """A pass over the contacts of `given`, from the first on. Raises `BadInput`. Close it before its client."""

    def __init__(self, given: ContactInput) -> None:
        self._arguments = list(reversed(given.arguments))
        self._sources: list[_Source] = []
        for fd, name, begin in given.files:
            if begin is not None:
                os.lseek(fd, begin, os.SEEK_SET)
            self._sources.append(_Lines(given, fd, name))
        self._sources += [_Segment(given, segment) for segment in given.segments]
        self._at = 0
        self._stopped = False
        self.given = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        if self._stopped:
            raise StopAsyncIteration
        contact = self._arguments.pop() if self._arguments else await self._read()
        self.given += 1
        return contact

    async def _read(self) -> Contact:
        while self._at < len(self._sources):
            try:
                return await anext(self._sources[self._at])
            except StopAsyncIteration:
                self._at += 1
        raise StopAsyncIteration

    def stop(self) -> None:
        """Hand out no more, as if that were all."""
        self._stopped = True

    @property
    def complete(self) -> bool:
        """Whether everything was read to its end."""
        return all(source.complete for source in self._sources)

    async def rest(self, *, all: bool) -> AsyncIterator[bytes]:
        """The contacts that were not asked for, unchecked, as lines of a file.

        A pipe or a segment is waited for a second, and a file as well unless `all`.
        """
        while self._arguments:
            yield self._arguments.pop().value.encode()
        for source in self._sources:
            until = None if all and source.regular else asyncio.get_running_loop().time() + _REST
            async for line in source.rest(until):
                yield line

    async def aclose(self) -> None:
        """End the reading."""
        for source in self._sources:
            await source.aclose()


class _Source:
    """A file or a segment: what both read in blocks, and hand out one by one."""

    regular = False  # a file on a disk: a read does not block long enough to be worth a thread

    def __init__(self, given: ContactInput, name: str) -> None:
        self.complete = False  # read to the end
        self._given = given
        self._name = name
        self._pending: list[bytes] = []  # reversed
        self._found = False
        self._reading: asyncio.Future[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        while True:
            while self._pending:
                if (contact := self._parse(self._pending.pop())) is not None:
                    return contact
            if self.complete:
                raise StopAsyncIteration
            await self._read()
            if self.complete and not self._found and not any(map(_content, self._pending)):
                self._given.report_empty(self._name)

    async def rest(self, until: float | None) -> AsyncIterator[bytes]:
        """What was not handed out, up to the time `until` of the loop's clock; then `complete` says if that is all."""
        while True:
            while self._pending:
                if line := _content(self._pending.pop()):
                    yield line
            if self.complete or (until is not None and asyncio.get_running_loop().time() >= until):
                return
            try:
                async with asyncio.timeout_at(until):
                    await self._read()
            except (BadInput, NP6Error, TimeoutError):
                return
            await asyncio.sleep(0)  # a file may be large, and Ctrl-C must be handled

    async def aclose(self) -> None:
        """End the reading."""

    async def _read(self) -> None:
        """Read more into `_pending`."""
        raise NotImplementedError

    async def _shielded(self, begin: Callable[[], asyncio.Future[Any]]) -> Any:
        """The result of what `begin` starts: when this is cancelled it goes on, and the next call gets its result."""
        if self._reading is None:
            self._reading = begin()
        result = await asyncio.shield(self._reading)
        self._reading = None
        return result

    def _parse(self, line: bytes) -> Contact | None:
        raise NotImplementedError


class _Lines(_Source):
    """The lines of a text file."""

    def __init__(self, given: ContactInput, fd: int, name: str) -> None:
        super().__init__(given, name)
        self.regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._blocks = TextBlocks(fd, name, _BLOCK)
        self._tail = b""
        self._number = 0

    async def _read(self) -> None:
        if len(self._tail) > _MAX_LINE:
            raise self._too_long(self._number + 1)
        try:
            read = self._blocks.read
            block = read() if self.regular else await self._shielded(lambda: in_thread(read))
        except OSError as error:
            raise BadInput(f"{self._name} cannot be read: {error.strerror}") from None
        self.complete = not block
        data = self._tail + block
        # The second character of a line end of two may be in the next block.
        held = b"\r" if block and data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, tail = data.split(b"\n")
        if self.complete:
            lines.append(tail)
            tail = b""
        self._tail = tail + held
        self._pending = lines[::-1]

    def _parse(self, line: bytes) -> Contact | None:
        self._number += 1
        try:
            value = self._decode(line).strip()
        except BadInput:
            self._pending.append(line)  # it was not handed out: `rest` gives it
            raise
        if not value or value.startswith("#"):
            return None
        self._found = True
        try:
            return Contact(self._given.by, value)
        except InvalidContact:
            problem, hint = refusal(self._given.by, value)
            self._given.refuse_line(f"{self._name}, line {self._number}: {problem}", hint)
            return None

    def _decode(self, line: bytes) -> str:
        if self._number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BadInput(
                    f"{self._name} is UTF-16 text; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEWFILE"
                )
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > _MAX_LINE:
            raise self._too_long(self._number)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise BadInput(f"{self._name}: line {self._number} is not UTF-8 text") from None

    def _too_long(self, number: int) -> BadInput:
        return BadInput(f"{self._name}: line {number} is too long: one contact a line is expected")


class _Segment(_Source):
    """The ids of the contacts of a segment."""

    def __init__(self, given: ContactInput, segment: str) -> None:
        super().__init__(given, f"segment {segment}")
        self._batches = given.client.segments.contacts(segment).batches()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            batch: list[str] | None = await self._shielded(lambda: asyncio.create_task(self._next()))
        except NotFound:
            raise BadInput(f"{self._name}: the account has none with this id; 'np6 segments' lists them") from None
        self.complete = batch is None
        if batch is not None:
            self._found = True
            self._pending = [value.encode(errors="replace") for value in batch[::-1]]

    async def _next(self) -> list[str] | None:
        return await anext(self._batches, None)

    def _parse(self, line: bytes) -> Contact | None:
        value = line.decode()
        try:
            return Contact.by_id(value)
        except InvalidContact:
            problem, _ = refusal("id", value)
            self._given.refuse_line(f"{self._name}: an id {problem}", "no events can be requested for such ids")
            return None


def _read_arguments(by: By, values: Sequence[str], hint: str | None = None) -> list[Contact]:
    contacts = []
    for number, value in enumerate(values, 1):
        if value == "-":
            raise BadInput(f"contact {number} is '-': contacts come from standard input with --ids-from -")
        if by == "id" and ("." in value or "/" in value) and os.path.isfile(value):
            raise BadInput(f"contact {number} is the name of a file: contacts come from a file with --ids-from FILE")
        try:
            contacts.append(Contact(by, value))
        except InvalidContact:
            problem, advice = refusal(by, value)
            raise BadInput(f"contact {number} {problem}; {hint or advice}") from None
    return contacts


def _open_file(option: str, path: str, paths: Sequence[str], output: str, stack: ExitStack) -> tuple[int, str]:
    """The descriptor of a file of contacts, which `stack` closes, and its name in messages."""
    if path == "-":
        if paths.count("-") > 1:
            raise BadInput(f"{option} -: standard input can be read once")
        if sys.stdin is None:
            raise BadInput(f"{option}: standard input is closed")
        fd, name = 0, "standard input"
    elif not path:
        raise BadInput(f"{option}: the name of the file is empty")
    else:
        try:
            fd, name = os.open(path, os.O_RDONLY), path
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"{option}: {path!r} cannot be read: {reason}") from None
        stack.callback(os.close, fd)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise BadInput(f"{option}: {path!r} cannot be read: it is a directory")
    if output != "-" and os.path.exists(output) and os.path.samestat(os.fstat(fd), os.stat(output)):
        raise BadInput(f"--output and {option} are the same file, which would be overwritten")
    return fd, name


def _position(fd: int) -> int | None:
    """Where a file is read from; None: it can be read only once."""
    return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _count_lines(blocks: TextBlocks) -> int:
    """How many lines to the end of a file hold more than blanks and a comment. Blocks."""
    count, tail = 0, b""
    while len(tail) <= _MAX_LINE and (block := blocks.read()):
        *lines, tail = (tail + block).split(b"\n")
        count += sum(1 for line in lines if _content(line))
    return count + bool(_content(tail))


def _content(line: bytes) -> bytes:
    """The line without what is around a contact; empty where there is none."""
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    return b"" if line.startswith(b"#") else line
