"""Checked references to actions, and their paths in the API."""

from __future__ import annotations

from attrs import frozen

from .._errors import InvalidInput
from .contacts import id_problem


@frozen
class Action:
    """A checked reference to an action or, without an id, to all actions of the account; hashable.

    An action is what sends: a message to the contacts of a segment, most often. NP6's ids have six characters today
    (`000PE4`); 1 to 256 of `0-9 A-Z a-z . _ ~ : + = -` are accepted, but not ``.`` or ``..``. Anything else raises
    `InvalidInput`.
    """

    id: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.id is None:
            return
        if not isinstance(self.id, str):
            raise InvalidInput(f"An action's id is a str such as '000PE4', not {type(self.id).__name__}.")
        if problem := id_problem(self.id):
            raise InvalidInput(f"The action id {problem}. Pass the id as NP6 gave it, such as '000PE4'.")
        object.__setattr__(self, "id", str.__str__(self.id))  # an enum member formats as its name

    @property
    def label(self) -> str:
        """The action as messages and logs may name it."""
        return "the account" if self.id is None else f"action {self.id}"

    def path(self, below: str) -> str:
        """The path of what is `below` the action, percent-encoded."""
        return f"/actions{below}" if self.id is None else f"/actions/{self.id}{below}"

    def path_template(self, below: str) -> str:
        """The path as logs may show it, without the id."""
        return f"/actions{below}" if self.id is None else f"/actions/{{id}}{below}"


def parse_action(action: str | Action) -> Action:
    """The action that is meant: an `Action` is returned as it is, a `str` is an id; else raises `InvalidInput`."""
    if action is None:
        raise InvalidInput("An action's id is a str such as '000PE4', not None.")
    return action if isinstance(action, Action) else Action(action)
