"""A product is on disk whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from coronjax import run
from coronjax.io.products import write as write_products
from coronjax.io.writing import OutputError, begin_writing, check_folder


def content(value=1.0):
    return fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.full((4, 5), value, ">f4"), name="SCI")])


def write(hdus, path):
    return begin_writing(hdus, path)()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_with_checksums(tmp_path):
    path = write(content(), tmp_path / "deep" / "er" / "a.fits")
    assert names(path.parent) == ["a.fits"]
    with fits.open(path, checksum=True) as hdus:  # a wrong one would be a warning, and so an error
        assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
        assert hdus["SCI"].data.sum() == 20


def test_rights_are_those_of_new_files(tmp_path):
    (tmp_path / "other").touch()
    path = write(content(), tmp_path / "a.fits")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_existing_file_is_replaced(tmp_path):
    for value in (1.0, 2.0):
        path = write(content(value), tmp_path / "a.fits")
    assert fits.getdata(path, "SCI").max() == 2
    assert names(tmp_path) == ["a.fits"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_an_error_leaves_what_was_there(tmp_path, monkeypatch, error):
    path = write(content(1.0), tmp_path / "a.fits")

    def half(self, file, **_):
        file.write(b"SIMPLE  =")
        raise error

    monkeypatch.setattr(fits.HDUList, "writeto", half)
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(content(2.0), path)
    assert names(tmp_path) == ["a.fits"]
    monkeypatch.undo()
    assert fits.getdata(path, "SCI").max() == 1


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a\.fits: the product cannot be written"):
        write(content(), tmp_path / "file" / "a.fits")
    (tmp_path / "b.fits").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write(content(), tmp_path / "b.fits")
    assert names(tmp_path) == ["b.fits", "file"]


def test_a_folder_is_looked_at_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    check_folder(tmp_path / "new" / "er")
    assert names(tmp_path) == ["file"]
    for folder in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(OutputError, match="file is no folder"):
            check_folder(folder)
        with pytest.raises(OutputError, match="file is no folder"):  # before it finds that there is nothing to read
            run(tmp_path / "no_such_asn.json", output_dir=folder)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(OutputError, match=f"no right to write to {tmp_path}$"):
        check_folder(tmp_path / "new")


def test_the_name_appears_at_the_end(tmp_path):
    write(content(1.0), tmp_path / "a.fits")
    end = begin_writing(content(2.0), tmp_path / "a.fits")
    assert fits.getdata(tmp_path / "a.fits", "SCI").max() == 1
    end()
    assert fits.getdata(tmp_path / "a.fits", "SCI").max() == 2
    assert names(tmp_path) == ["a.fits"]


def test_a_disk_that_fails_at_the_end(tmp_path, monkeypatch):
    write(content(1.0), tmp_path / "a.fits")
    end = begin_writing(content(2.0), tmp_path / "a.fits")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.fits: the product cannot be written: No space left"):
        end()
    monkeypatch.undo()
    assert names(tmp_path) == ["a.fits"]
    assert fits.getdata(tmp_path / "a.fits", "SCI").max() == 1


def products(count):
    return [SimpleNamespace(name=f"{i}.fits", hdulist=lambda i=i: content(i)) for i in range(count)]


def test_products_come_in_their_order(tmp_path):
    paths = write_products(iter(products(5)), tmp_path)
    assert [path.name for path in paths] == names(tmp_path) == [f"{i}.fits" for i in range(5)]
    assert [fits.getdata(path, "SCI").max() for path in paths] == list(range(5))


@pytest.mark.parametrize("failing", [0, 3])
def test_a_slow_disk_that_fails_stops_the_rest(tmp_path, monkeypatch, failing):
    """No more is begun than the file that waits and the one after it; of those that were not ended nothing is left."""
    begun, sync = [], os.fsync

    def slow(descriptor):
        time.sleep(0.02)
        if any(os.path.samestat(os.fstat(descriptor), path.stat()) for path in tmp_path.glob(f".{failing}.fits.*")):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    def asked():
        for product in products(8):
            begun.append(product.name)
            yield product
            assert len([name for name in names(tmp_path) if name.endswith(".part")]) <= 2

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(OutputError, match=rf"{failing}\.fits: the product cannot be written: No space left"):
        write_products(asked(), tmp_path)
    assert len(begun) <= failing + 3
    assert not [name for name in names(tmp_path) if name.endswith(".part")]
    assert f"{failing}.fits" not in names(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("existing", [True, False])
def test_a_killed_run_leaves_no_part_under_the_name(tmp_path, existing):
    if existing:
        write(content(1.0), tmp_path / "a.fits")
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {os.getcwd()!r})
from astropy.io import fits
from coronjax.io.writing import begin_writing
def half(self, file, **_):
    file.write(b"SIMPLE  =")
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
fits.HDUList.writeto = half
begin_writing(fits.HDUList([fits.PrimaryHDU()]), {str(tmp_path / "a.fits")!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    (left,) = [name for name in names(tmp_path) if name != "a.fits"]
    assert left.startswith(".a.fits.")
    assert left.endswith(".part")
    if existing:
        assert fits.getdata(tmp_path / "a.fits", "SCI").max() == 1
    else:
        assert not (tmp_path / "a.fits").exists()
