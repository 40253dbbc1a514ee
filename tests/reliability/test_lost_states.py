"""The state of a sync that goes astray while a run uses it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support import exported, synced

from np6_async import StoreError
from np6_async.export import Counts, Format, SyncWriter
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6

Figure = Callable[[str, str, str, object], None]

_FORMATS: tuple[Format, ...] = ("ndjson", "csv", "parquet")


def renamed(state: Path, away: Path) -> None:
    state.rename(away)


def replaced_by_a_copy(state: Path, away: Path) -> None:
    state.rename(away)
    shutil.copy(away, state)


def replaced_by_an_empty_file(state: Path, away: Path) -> None:
    state.rename(away)
    state.touch()


async def test_F4_a_state_that_goes_astray_doubles_nothing(tmp_path: Path, figure: Figure) -> None:
    """Renamed or replaced at a random moment of a run: the run says so, and writes no more files. With the file put
    back, the next run writes the rest."""
    draw = random.Random(11)
    wrong: Counter[str] = Counter()
    runs = 0
    with FakeNP6(400, (0, 12)) as server:
        truth = exported.truth(server, server.contact_ids)
        async with server.client() as np6:
            for number in range(10):
                for accident in (renamed, replaced_by_a_copy, replaced_by_an_empty_file):
                    folder = tmp_path / f"{accident.__name__}-{number}"
                    folder.mkdir()
                    state, away = folder / "state.db", folder / "away.db"
                    sync = Sync(np6, SQLiteStore(state), server.contact_ids)
                    moment = draw.randrange(truth.total())
                    form = draw.choice(_FORMATS)

                    def happens(
                        counts: Counts,
                        accident: Callable[[Path, Path], None] = accident,
                        moment: int = moment,
                        state: Path = state,
                        away: Path = away,
                    ) -> None:
                        if counts.events >= moment and not away.exists():
                            accident(state, away)

                    try:
                        async with sync.run(autocommit=False) as run:
                            await SyncWriter(
                                folder / "new", format=form, part_bytes=20_000, part_seconds=0.01, on_progress=happens
                            ).write(run)
                    except StoreError as error:
                        wrong.update(unclear="during the run" not in str(error))
                    else:
                        wrong.update(unnoticed=1)
                    away.replace(state)
                    async with sync.run(autocommit=False) as run:
                        await SyncWriter(folder / "new", format=form).write(run)
                    found = synced.events(folder / "new")
                    wrong.update(lost=(truth - found).total(), doubled=(found - truth).total())
                    runs += 1
    figure("F4", "events lost / doubled", "0 / 0", f"{wrong['lost']} / {wrong['doubled']}")
    figure("F4", "runs whose state went astray, with nothing said", "0", f"{wrong['unnoticed']} of {runs}")
    assert wrong.total() == 0
