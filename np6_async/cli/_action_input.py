"""What a command line names in place of contacts: the account or some actions, and the contacts to keep of them."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from .._models.actions import Action
from ..export import NoContacts, OnlyIds
from ._contact_input import ContactInput
from ._messages import BadInput, count

if TYPE_CHECKING:
    from ._command import Command

_IDS: Final = 10_000  # read between two looks at signals
_BY_CONTACT: Final = ("contacts", "ids_from", "segment", "by", "every", "retry_failed")


class ActionInput:
    """The actions whose events are fetched, of all contacts or of those in `--only-ids`. Raises `BadInput`.

    `only` is filled by `read_only_ids`, before the first request.
    """

    def __init__(self, command: Command, stack: ExitStack) -> None:
        options = command.options
        self.option = "--account" if options.account else "--action"
        if options.account and options.action:
            raise BadInput("--account takes the events of all actions: it cannot be combined with --action")
        for name in _BY_CONTACT:
            if getattr(options, name, None):
                self._refuse(name)
        self.ids: list[str] = list(dict.fromkeys(options.action))
        self._given: ContactInput | None = None
        self.only: OnlyIds | None = None
        if options.only_ids:
            hint = "--only-ids compares the NP6 ids of contacts, such as 000MLGPR"
            self._given = ContactInput(command, stack, "--only-ids", options.only_ids, hint=hint)
            self.only = OnlyIds()

    @staticmethod
    def is_given(options: argparse.Namespace) -> bool:
        """Whether there is one on the command line."""
        return bool(options.account or options.action)

    @property
    def subjects(self) -> list[Action]:
        """What is fetched: all actions in one, or each of them."""
        return [Action(each) for each in self.ids] or [Action()]

    @property
    def single(self) -> bool:
        """Whether one request answers for all."""
        return len(self.subjects) == 1

    @property
    def sync_of(self) -> dict[str, Any]:
        """The argument of `Sync` in place of contacts."""
        return {"actions": self.ids} if self.ids else {"account": True}

    @property
    def export_of(self) -> dict[str, Any]:
        """The argument of `Export` in place of contacts, for a single one."""
        return {"action": self.ids[0]} if self.ids else {"account": True}

    async def read_only_ids(self) -> None:
        """Read the ids of `--only-ids`; raises `NoContacts` where there are none, and what `ContactInput` does."""
        if self._given is None or self.only is None:
            return
        contacts = aiter(self._given)
        try:
            async for contact in contacts:
                self.only.add(contact.value)
                if contacts.given % _IDS == 0:
                    await asyncio.sleep(0)
        finally:
            await contacts.aclose()
        if not contacts.given:
            raise NoContacts

    def left_out(self, unnamed: int) -> list[str]:
        """What a summary says of events that no id could be compared with, where there were any."""
        if not unnamed:
            return []
        return [f"{count(unnamed, 'event')} left out whose contact is not named by its id"]

    def _refuse(self, name: str) -> None:
        what = "contacts" if name == "contacts" else f"--{name.replace('_', '-')}"
        message = f"{what} cannot be combined with {self.option}, which takes the events of all contacts"
        if name in ("contacts", "ids_from", "segment"):
            message += ": --only-ids FILE keeps those of some"
        raise BadInput(message)
