"""Exposures for the tests of products."""

import pytest

from .sky_files import pointing, sky_exposure


@pytest.fixture
def science(tmp_path):
    """Two rolls."""
    first = {"EXPOSURE": "00001", "EFFEXPTM": 10.0, "EXPEND": 5.0, "FILTER": "F430M"}
    second = {"EXPOSURE": "00002", "EFFEXPTM": 20.0, "EXPEND": 7.0, "FILTER": "F430M"}
    return [
        sky_exposure(tmp_path / "jw1_00001_nrcalong_calints.fits", sky=pointing(roll=30.0), **first),
        sky_exposure(tmp_path / "jw1_00002_nrcalong_calints.fits", sky=pointing(roll=40.0), **second),
    ]


@pytest.fixture
def references(tmp_path):
    return [sky_exposure(tmp_path / f"jw2_0000{i}_nrcalong_calints.fits", planes=3, NINTS=3) for i in (1, 2)]
