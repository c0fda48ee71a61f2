"""Many associations: what is done, skipped and failed, on workers that may die."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from astropy.table import Table

from coronjax import AssociationError, Options, OptionsError, Outcome, associations, cli, simulate
from coronjax.workers import client_of


@contextmanager
def here(workers: int | None, scheduler: str | None, n_tasks: int) -> Iterator[None]:
    """In place of a cluster: this process."""
    del workers, scheduler, n_tasks
    yield


def one_by_one(client: None, function: Callable, tasks: list) -> Iterator[tuple]:
    for task in tasks:
        yield task, function(task), None


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(associations, "client_of", here)
    monkeypatch.setattr(associations, "each_result", one_by_one)


def simulated(folder: Path, count: int) -> list[Path]:
    paths = []
    for seed in range(1, count + 1):
        made = simulate.simulate(
            *("nircam", folder / f"program{seed}"),
            seed=seed,
            shape=(48, 48),
            n_references=2,
            nints_science=2,
            nints_references=2,
        )
        paths.append(made.asn.rename(made.asn.with_name(f"jw{seed:05d}-c1001_coron3_asn.json")))
    return paths


def test_patterns(tmp_path: Path) -> None:
    for name in ("a/x_asn.json", "a/deep/y_asn.json", "z_asn.json", "a/other.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tasks = associations.plan([tmp_path / "**/*_asn.json", tmp_path / "z_asn.json"], tmp_path / "out", Options())
    assert [task.asn.relative_to(tmp_path).as_posix() for task in tasks] == [
        "a/deep/y_asn.json",
        "a/x_asn.json",
        "z_asn.json",
    ]
    assert tasks[0].folder == tmp_path / "out/y_asn"
    with pytest.raises(AssociationError, match=r"q\*.json: no association file matches"):
        associations.plan([tmp_path / "q*.json"], tmp_path, Options())
    with pytest.raises(AssociationError, match="no association file was named"):
        associations.plan([], tmp_path, Options())
    (tmp_path / "x_asn.json").touch()
    with pytest.raises(AssociationError, match="the same name as"):
        associations.plan([tmp_path / "**/*_asn.json"], tmp_path, Options())


def test_a_failure_stops_nothing(tmp_path: Path, in_process: None, capfd: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a_asn.json", "{"), ("b_asn.json", "[]")):
        (tmp_path / name).write_text(content)
    told: list[tuple[str, int, int]] = []
    outcomes = associations.batch(
        [tmp_path / "*_asn.json"],
        output_dir=tmp_path / "out",
        progress=lambda outcome, count, total: told.append((outcome.status, count, total)),
    )
    assert told == [("failed", 1, 2), ("failed", 2, 2)]
    assert "a_asn.json" in outcomes[0].message
    table = Table.read(tmp_path / "out" / associations.TABLE)
    assert list(table["status"]) == ["failed", "failed"]
    assert table["message"][1] == outcomes[1].message
    assert cli.main(["batch", str(tmp_path / "*_asn.json"), "--output-dir", str(tmp_path / "out")]) == 1
    said = capfd.readouterr()
    assert "2 associations: 0 done, 0 complete before, 2 failed" in said.out
    assert "1 of 2  failed" in said.err


def test_what_no_one_foresaw_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr("coronjax.io.manifest.fingerprint", broken)
    outcome = associations.perform(associations.Task(tmp_path / "a_asn.json", tmp_path, Options()))
    assert (outcome.status, outcome.message) == ("failed", "ZeroDivisionError: of nothing")


def test_table_keeps_everything(tmp_path: Path) -> None:
    outcomes = [Outcome("a, b_asn.json", "failed", 1.5, 0, "out", 'it said "no"'), Outcome("c", "done", 2.0, 17, "o")]
    table = Table.read(associations.write_outcomes(outcomes, tmp_path / "t.ecsv"))
    assert table["message"][0] == outcomes[0].message
    assert list(table["products"]) == [0, 17]
    assert str(table["seconds"].unit) == "s"


def test_wrong_workers() -> None:
    for workers, scheduler, message in ((2, "tcp://a:1", "give one of them"), (0, None, "at least 1")):
        with pytest.raises(OptionsError, match=message), client_of(workers, scheduler, 1):
            pass


@pytest.mark.slow
def test_workers_keep_what_they_free() -> None:
    """As this process does; by dask they would give it back to the system."""
    name = "MALLOC_TRIM_THRESHOLD_"
    with client_of(1, None, 1) as client:
        assert list(client.run(os.environ.get, name).values()) == [os.environ.get(name)]


@pytest.mark.slow
def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coronjax.workers.ANSWER", 1)
    with pytest.raises(OptionsError, match="no dask scheduler answers"), client_of(None, "tcp://127.0.0.1:1", 1):
        pass


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    import psutil

    paths = simulated(tmp_path / "programs", 4)
    paths[1].with_name("jw09999003001_03102_00001_nrcalong_calints.fits").write_bytes(b"SIMPLE")
    killed: list[int] = []

    def kill_one() -> None:
        """As soon as a worker has begun with an association, which its file of messages shows."""
        while not list((tmp_path / "out").glob(f"*/{associations.LOG}")):
            time.sleep(0.05)
        workers = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
        busiest = max(workers, key=lambda p: sum(p.cpu_times()[:2]))
        os.kill(busiest.pid, signal.SIGKILL)
        killed.append(busiest.pid)

    def reduce_all(**chosen: object) -> tuple[Outcome, ...]:
        return associations.batch(
            [tmp_path / "programs/**/*_asn.json"], output_dir=tmp_path / "out", options=Options.official(), **chosen
        )

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    outcomes = reduce_all(workers=2)
    killer.join()
    assert killed
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "done"]
    assert "jw09999003001" in outcomes[1].message
    assert not list((tmp_path / "out").rglob("*.part"))

    last = Path(outcomes[3].folder)
    next(last.glob("*_i2d.fits")).unlink()
    again = reduce_all(workers=1)
    assert [outcome.status for outcome in again] == ["skipped", "failed", "skipped", "done"]
    assert again[0].products == outcomes[0].products == len(list(Path(outcomes[0].folder).glob("*.fits")))
    assert list(last.glob("*_i2d.fits"))
