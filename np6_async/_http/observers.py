"""Who is notified of observations: the log, and the user's hooks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import attrs

from .._errors import APIError, ConfigError
from .observations import ContactFailed, Hook, Observation, RateLimitWait, RetryScheduled

logger: Final = logging.getLogger("np6_async")
logger.addHandler(logging.NullHandler())

_TYPES: Final[tuple[type[Observation], ...]] = get_args(Observation)
_LEVELS: Final[dict[type[Observation], int | None]] = {
    **dict.fromkeys(_TYPES, logging.DEBUG),
    RetryScheduled: logging.INFO,
    RateLimitWait: logging.INFO,
    ContactFailed: logging.INFO,
}


class LoggingHook:
    """Logs each observation. A client adds one, unless its `hooks` already include one.

    `logger` is a logger or the name of one, by default ``np6_async``. `levels` maps types of observations to the level
    at which they are logged, or to None to not log them: by default `RetryScheduled`, `RateLimitWait` and
    `ContactFailed` are INFO, the others DEBUG.

    The message is the text of the observation. For structured logs, its members are in `extra` with the prefix ``np6_``
    (``np6_path``, ``np6_attempt``, ``np6_delay``, ...); ``np6_observation`` is its type, ``np6_error`` the type of its
    error and ``np6_request_id`` the server's id of the failed request. They include no contact, no query and no text of
    an error. Raises `ConfigError` for anything else than a logger, observations and levels.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "np6_async",
        *,
        levels: Mapping[type[Observation], int | None] | None = None,
    ) -> None:
        if not isinstance(logger, logging.Logger | str):
            raise ConfigError(f"logger must be a logging.Logger or the name of one, not {type(logger).__name__}")
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        for observed, level in (levels or {}).items():
            if observed not in _LEVELS or isinstance(level, bool) or not isinstance(level, int | None):
                raise ConfigError("levels must map types of observations, such as RetryScheduled, to levels or None")
        self._levels = {
            observed: level for observed, level in {**_LEVELS, **(levels or {})}.items() if level is not None
        }
        self._highest = max(self._levels.values(), default=None)

    def listens(self) -> bool:
        """Whether anything would be logged."""
        return self._highest is not None and self._logger.isEnabledFor(self._highest)

    def __call__(self, observation: Observation, /) -> None:
        """Log it, where its level is enabled."""
        level = self._levels.get(type(observation))
        if level is not None and self._logger.isEnabledFor(level):
            # As text: kept log records must not keep contacts and errors alive.
            self._logger.log(level, str(observation), extra=_members(observation))


def _members(observation: Observation) -> dict[str, Any]:
    extra: dict[str, Any] = {"np6_observation": type(observation).__name__}
    for member in attrs.fields(type(observation)):
        if member.name not in ("contact", "error"):
            extra[f"np6_{member.name}"] = getattr(observation, member.name)
    error = getattr(observation, "error", None)
    if error is not None:
        extra["np6_error"] = type(error).__name__
        if isinstance(error, APIError) and error.request_id:
            extra["np6_request_id"] = error.request_id
    return extra


class Observers:
    """Passes observations to the log and to the hooks. False while nobody listens."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        hooks = tuple(hooks)
        logging_hooks = [hook for hook in hooks if isinstance(hook, LoggingHook)]
        if not logging_hooks:
            logging_hooks = [LoggingHook()]
            hooks = (*logging_hooks, *hooks)
        self._hooks = hooks
        self._listens = [hook.listens for hook in logging_hooks]
        self._always = len(hooks) > len(logging_hooks)

    def __bool__(self) -> bool:
        if self._always:
            return True
        try:
            for listens in self._listens:  # not `any`: this runs for each contact, and `any` takes twice as long
                if listens():
                    return True
        except Exception as error:
            _log(error)
            return True  # the others may listen
        return False

    def __call__(self, observation: Observation) -> None:
        """Notify every hook."""
        for hook in self._hooks:
            try:
                hook(observation)
            except Exception as error:
                _log(error)


def _log(error: Exception) -> None:
    # Its text is not ours to log: it may quote the contact.
    logger.error("a hook raised %s", type(error).__name__)
