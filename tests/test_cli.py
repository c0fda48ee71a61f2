"""The command line: exit status, messages, what goes to which stream."""

import errno
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from coronjax import cli, commands, demo, pipeline, simulate
from coronjax.inspection import inspect
from coronjax.options import Klip, Options, OutlierDetection, Resample

Capture = pytest.CaptureFixture[str]
RUN = ["run", "--official", "--options.klip.truncate", "3"]


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> simulate.Simulation:
    return simulate.simulate(
        "nircam", tmp_path_factory.mktemp("input"), shape=(48, 48), n_references=2, nints_science=2, nints_references=2
    )


@pytest.fixture
def copy(simulation: simulate.Simulation, tmp_path: Path) -> Path:
    """The association in a folder of its own, to be spoilt."""
    for path in (simulation.asn, simulation.psf_mask, *simulation.members):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / simulation.asn.name


def edit_headers(path: Path, change: Callable[[fits.Header], None]) -> None:
    with fits.open(path, mode="update") as hdus:
        change(hdus[0].header)


def usage(*words: str) -> int:
    """Exit status of a command line that ends in the parser."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys; from coronjax import cli\n"
        "try: cli.main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('jax', 'numpy', 'astropy', 'rich', 'matplotlib') if name in sys.modules])"
    )
    for flag, expected in (("--version", "coronjax 0."), ("--help", "simulate")):
        done = subprocess.run([sys.executable, "-W", "error", "-c", code, flag], capture_output=True, text=True)
        assert expected in done.stdout, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"
        assert "\x1b" not in done.stdout


def test_help_names_every_command(capsys: Capture) -> None:
    assert usage("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert set(cli.COMMANDS) == set(commands._CLASSES)
    assert usage() == 0


def test_help_of_run_comes_from_the_options(capsys: Capture) -> None:
    assert usage("run", "--help") == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "--options.klip.truncate INT Number of KL modes kept" in text
    assert "(default: 50)" in text
    assert "--options.resample.output-shape {None}|{INT INT}" in text


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["run"],
        ["run", "a.json", "--options.klip.truncate", "many"],
        ["run", "a.json", "--options.resample.kernel", "gaussian"],
        ["simulate", "hubble", "folder"],
        ["info", "a.json", "--no-such-option"],
    ],
)
def test_a_wrong_command_line_is_status_2(words: list[str], capsys: Capture) -> None:
    assert usage(*words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bad_input_is_status_1_with_a_message(capsys: Capture) -> None:
    for words in (["run", "no_such_asn.json"], ["info", "no_such_asn.json"]):
        assert cli.main(words) == 1
        out, err = capsys.readouterr()
        assert err == "coronjax: error: no_such_asn.json: no such association file\n"
        assert out == ""
    assert cli.main(["run", "a.json", "--options.klip.truncate", "-3"]) == 1
    assert capsys.readouterr().err == "coronjax: error: klip.truncate=-3 must be at least 0\n"


def test_debug_shows_the_traceback(capsys: Capture) -> None:
    for words in (["--log-level", "DEBUG"], ["--log-level=DEBUG"]):
        assert cli.main(["run", "no_such_asn.json", *words]) == 1
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "coronjax: interrupted\n"),
        (MemoryError(), 1, "coronjax: error: out of memory.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x"),
            1,
            "coronjax: error: out/x: No space left on device\n",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 9 GB"),
            1,
            "coronjax: error: out of memory on the device. RESOURCE_EXHAUSTED: 9 GB\n",
        ),
    ],
)
def test_other_ends(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run", fail)
    assert cli.main(["run", "a.json"]) == status
    assert capsys.readouterr().err == message


def test_our_own_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "a.json"])


def test_flags_reach_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Enough(Exception):
        pass

    def note(asn: Path, **settings: Any) -> None:
        seen.update(settings, asn=asn)
        raise Enough

    official = Options(precision="float32")
    monkeypatch.setattr(Options, "official", classmethod(lambda cls: official))
    monkeypatch.setattr(pipeline, "run", note)
    words = ["run", "a.json", "--official", "--psfmask", "m.fits", "--output-dir", "out", "--allow-outside"]
    with pytest.raises(Enough):
        cli.main([*words, "--options.klip.truncate", "20", "--options.resample.crpix", "1", "2"])
    options = seen["options"]
    assert (options.precision, options.klip.truncate, options.resample.crpix) == ("float32", 20, (1.0, 2.0))
    assert (seen["asn"], seen["psfmask"], seen["output_dir"]) == (Path("a.json"), Path("m.fits"), Path("out"))
    assert seen["allow_outside"] is True
    with pytest.raises(Enough):
        cli.main(["run", "a.json"])
    assert (seen["options"].precision, seen["output_dir"], seen["psfmask"]) == ("float64", Path(), None)


def test_run_and_quiet(simulation: simulate.Simulation, tmp_path: Path, capsys: Capture) -> None:
    logger = logging.getLogger("coronjax")
    before = (list(logger.handlers), logger.level, logger.propagate)
    words = [*RUN, str(simulation.asn), "--output-dir", str(tmp_path / "out")]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "warning: no PSF mask was given" in err
    assert re.search(r"^reduce +\d+\.\d\d s  \d+ outliers flagged", err, re.MULTILINE)
    row = next(line for line in out.splitlines() if line.startswith("│ jw09999001001"))
    assert [cell.strip() for cell in row.strip("│").split("│")][3::2] == ["4 of 4", "3"]
    assert "_i2d.fits" in out
    assert "\x1b" not in out + err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == set(inspect(simulation.asn).products)

    assert cli.main([*words, "--quiet", "--psfmask", str(simulation.psf_mask)]) == 0
    assert capsys.readouterr() == ("", "")
    assert (list(logger.handlers), logger.level, logger.propagate) == before


def test_a_folder_that_cannot_be_made(simulation: simulate.Simulation, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    words = [*RUN, str(simulation.asn), "--output-dir", str(tmp_path / "file")]
    assert cli.main([*words, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("coronjax: error: ")
    assert str(tmp_path / "file") in err


def test_info_lists_what_there_is(simulation: simulate.Simulation, tmp_path: Path, capsys: Capture) -> None:
    assert (
        cli.main(["info", str(simulation.asn), "--output-dir", str(tmp_path), "--options.resample.pixfrac", "0.8"]) == 0
    )
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"jw09999001001_03102_00001_nrcalong +│ science +│ .*│ +2 │ +48 x 48 │ F430M +│ MASKA335R", out)
    assert "align 4 reference integrations to each of 2 science exposures" in out
    assert "subtract the star from 4 science integrations with 4 modes" in out
    assert "pixfrac=0.8 (changed)" in out
    assert "subtract a constant level from every frame" in out
    assert "find the star by a fit where that is reliable" in out
    assert "every pixel counts the same" in out
    assert not any(tmp_path.iterdir())
    assert cli.main(["info", str(simulation.asn), "--psfmask", str(simulation.psf_mask)]) == 0
    assert "PSF mask psfmask.fits" in capsys.readouterr().out


def test_info_sees_what_is_odd(copy: Path) -> None:
    content = json.loads(copy.read_text())
    members = content["products"][0]["members"]
    members.append({"expname": "acquisition.fits", "exptype": "target_acquisition"})
    copy.write_text(json.dumps(content))
    science = copy.parent / members[0]["expname"]
    edit_headers(science, lambda header: header.update(NINTS=7, IS_PSF=True, S_KLIP="COMPLETE"))
    found = inspect(copy, output_dir=copy.parent, psfmask=copy.parent / "psfmask.fits")
    assert found.errors == ()
    text = "\n".join(found.warnings)
    for expected in (
        "acquisition.fits",
        "NINTS=7, but SCI holds 2 integrations",
        "IS_PSF=True, but the association has it as science",
        "S_KLIP='COMPLETE'",
    ):
        assert expected in text
    (copy.parent / found.products[-1]).touch()
    assert f"{found.products[-1]} is there already" in "\n".join(inspect(copy, output_dir=copy.parent).warnings)


def test_info_goes_on_after_an_error(copy: Path, capsys: Capture) -> None:
    references = sorted(copy.parent.glob("jw09999003*"))
    edit_headers(references[0], lambda header: header.update(FILTER="F444W"))
    references[1].write_bytes(references[1].read_bytes()[:5000])
    assert cli.main(["info", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "Errors" in out
    assert f"{references[0]}: FILTER='F444W'" in out
    assert str(references[1]) in out
    assert cli.main(["info", str(copy), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("coronjax: error: ") == 2


def test_products_are_named_when_steps_are_skipped(simulation: simulate.Simulation) -> None:
    assert inspect(simulation.asn, options=Options(klip=Klip(truncate=2))).steps[4][1].endswith("with 2 modes")
    left_out = Options(outlier_detection=OutlierDetection(skip=True), resample=Resample(skip=True))
    found = inspect(simulation.asn, options=left_out)
    assert sum(name.endswith("_i2d.fits") for name in found.products) == 4
    assert not any("crfints" in name for name in found.products)
    assert dict(found.steps)["resample"] == "skipped"


def test_simulate(tmp_path: Path, capsys: Capture) -> None:
    words = ["simulate", "nircam", str(tmp_path / "new"), "--shape", "40", "44", "--n-references", "1", "--seed", "4"]
    assert cli.main([*words, "--companions", "0.6", "30", "1e-4"]) == 0
    asn = Path(capsys.readouterr().out.splitlines()[0])
    assert asn.parent == tmp_path / "new"
    found = inspect(asn)
    assert all(member.headers is not None and member.headers.shape[1:] == (40, 44) for member in found.members)
    truth = json.loads((asn.parent / "truth.json").read_text())
    assert truth["seed"] == 4
    assert cli.main(["simulate", "nircam", str(tmp_path), "--shape", "2", "2"]) == 1
    assert "32 x 32" in capsys.readouterr().err


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["demo", str(tmp_path / "demo")]) == 0
    out, err = capsys.readouterr()
    for step in ("simulate", "reduce", "measure", "draw"):
        assert re.search(rf"^{step} ", err, re.MULTILINE)
    assert (tmp_path / "demo/demo.png").read_bytes().startswith(b"\x89PNG")
    for name, companion in zip("bcd", demo.COMPANIONS, strict=True):
        row = next(line for line in out.splitlines() if line.startswith(f"│ {name}"))
        numbers = np.array([float(cell) for cell in row.strip("│").split("│")[1:]])
        assert numbers[0] == companion.separation
        assert abs(numbers[1] - companion.separation) < 0.02
        assert abs(numbers[3] - companion.position_angle) < 1.0
        assert numbers[5] > 8
