"""`np6 events --account` and `--action`: the events of all contacts as NDJSON."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final, Literal

from attrs import define

from .. import BulkStream, Done, Event, Failure, NP6Client, NP6Error
from .._columns.recipients import of_contacts
from .._models.time_bounds import isoformat
from ._action_input import ActionInput
from ._events import EventsCommand
from ._messages import count
from ._output import Output
from ._time_options import read_span

_SHOWN: Final = 5  # actions that are not done


@define
class _Reached:
    """How far an action is written: up to the timestamp `last` (in epoch ms), of which there are `tied` lines."""

    last: int | None = None
    tied: int = 0
    done: bool = False

    def took(self, events: list[Event], written: list[Event]) -> None:
        """These were taken, 1 or more, and those of them written that are to be kept."""
        last = events[-1].timestamp
        tied = sum(event.timestamp == last for event in written)
        self.tied = tied if last != self.last else self.tied + tied
        self.last = last

    def say(self, *, newest_first: bool) -> str:
        """Which events are complete, and how a later run fetches the others."""
        if self.last is None:
            return "no event has arrived"
        if newest_first:
            time, side, option = isoformat(self.last + 1), "from {} on", "--end"
        else:
            time, side, option = isoformat(self.last), "before {}", "--start"
        said = f"the events {side.format(time)} are complete; for the others, repeat the command with {option} {time}"
        return f"{said} ({count(self.tied, 'event')} will come again)" if self.tied else said


class ActionEventsCommand(EventsCommand):
    """One run of `np6 events --account` or `--action`."""

    _unknown = "up to which time it is complete is not known"

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        self._span = read_span(options.start, options.end, options.tz)
        self._given = ActionInput(self, stack)
        self._reached: dict[Any, _Reached] = {action: _Reached() for action in self._given.subjects}
        self._unnamed = 0
        self._torn = False

    async def fetch(self, np6: NP6Client) -> int:
        return await self._write(self._open(np6.actions.stream_many, self._given.subjects))

    @property
    def done(self) -> int:
        return sum(reached.done for reached in self._reached.values())

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        self._torn = isinstance(error, OSError) and not isinstance(error, NP6Error)
        return super().outcome_of(error)

    @property
    def name_length(self) -> int:
        return 8

    async def _pump(self, stream: BulkStream[Any, Event], output: Output) -> None:
        await self._given.read_only_ids()
        async with stream:
            async for action, item in stream.outcomes():
                if isinstance(item, list):
                    await self._take(self._reached[action], item, output)
                elif isinstance(item, Done):
                    self._reached[action].done = True
        nothing = self.failures.count > self.failures.refused and self.done == 0
        self._kept = await (output.abandon() if nothing else output.complete())

    async def _take(self, reached: _Reached, events: list[Event], output: Output) -> None:
        written = events
        if self._given.only is not None:
            written, unnamed = of_contacts(events, self._given.only)
            self._unnamed += unnamed
        reached.took(events, written)
        self._events += len(written)
        if written:
            await output.add(self.lines(None, written))
        self.progress.update(
            None, self._events, self.watch.retries, reached=events[-1].timestamp if self._given.single else None
        )

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        return self.failures.add(failure)

    async def _list_remaining(self, output: Output) -> str | None:
        return None

    def _summarise(self, stopped: str | None, seconds: float) -> None:
        given, parts = self._given, []
        if not given.single:
            of = f" of {len(self._reached):,}" if self.done < len(self._reached) else ""
            parts.append(f"{self.done:,}{of} actions done")
        parts.append(f"{count(self._events, 'event')} in {seconds:.1f} s")
        if self.failures.refused:
            parts.append(f"{count(self.failures.refused, 'line')} of --only-ids left out")
        if stopped is not None:
            self.say(stopped)
        self.say(", ".join([*parts, *given.left_out(self._unnamed), *self.watch.summary()]))
        for line in self.failures.report():
            self.say(f"  {line}")
        for line in [] if self._torn else self._incomplete():
            self.say(line)

    def _incomplete(self) -> list[str]:
        """What is known of the actions that are not done."""
        rest = [(action, reached) for action, reached in self._reached.items() if not reached.done]
        lines = [
            ("" if self._given.single else f"{action.label}: ") + reached.say(newest_first=self.options.newest_first)
            for action, reached in rest[:_SHOWN]
        ]
        return [*lines, f"... and {len(rest) - _SHOWN:,} more actions"] if len(rest) > _SHOWN else lines
