"""The products of jwst 3.0.0, kept as files: four synthetic associations and AU Mic."""

import pytest

from tests.official.judge import association, compare, run_ours, worst_shift

pytestmark = pytest.mark.official

CASES = ("nircam", "nircam_bar", "miri_4qpm", "miri_lyot")
PIXELS = {"miri_lyot": 1e-5, "aumic": 1e-5}  # the minimum of the registration is flat there


@pytest.mark.parametrize("case", CASES)
def test_all_modes_kept(shared_data, tmp_path, case):
    folder = shared_data / "official" / case
    result = run_ours(association(folder / "input"), tmp_path, {})
    compare(tmp_path, folder / "golden", folder / "golden_f64")
    assert worst_shift(result, folder / "golden_f64/timings.json") < PIXELS.get(case, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_five_modes_kept(shared_data, tmp_path, case):
    folder = shared_data / "official" / case
    result = run_ours(association(folder / "input"), tmp_path, {"klip.truncate": 5})
    compare(tmp_path, folder / "golden", folder / "golden_f64_k5")
    assert worst_shift(result, folder / "golden_f64_k5/timings.json") < PIXELS.get(case, 1e-6)


def test_au_mic(shared_data, tmp_path):
    folder = shared_data / "aumic_f444w"
    result = run_ours(association(folder / "input"), tmp_path, {})
    compare(tmp_path, folder / "golden_f64")
    assert worst_shift(result, folder / "golden_f64/timings.json") < PIXELS["aumic"]
