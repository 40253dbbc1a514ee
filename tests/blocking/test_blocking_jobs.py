"""A call of a blocking client that is interrupted as it begins."""

from __future__ import annotations

import threading

import pytest

from np6_async import ClientClosed
from np6_async._client import NP6Client
from np6_async.blocking._handover import End, Handover
from np6_async.blocking._job import Job
from np6_async.blocking._loop import Loop


@pytest.mark.timeout(30)
def test_a_call_that_is_interrupted_before_its_first_step_ends() -> None:
    loop = Loop(NP6Client("k"))
    try:
        busy = threading.Event()
        loop.submit(busy.wait)  # so that the call and its end are met in one turn of the loop

        async def work() -> None:
            raise AssertionError

        handover: Handover[None] = Handover(loop)
        job = Job(loop, work, handover)
        job.abandon()
        busy.set()
        job.stop()
        ended = handover.receive()
        assert isinstance(ended, End)
        assert isinstance(ended.error, ClientClosed)
    finally:
        loop.close()
