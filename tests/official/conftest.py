"""What these tests need from outside: the shared data and tools, and an environment with the official pipeline."""

import pytest

from tests.official.judge import OFFICIAL, SHARED


@pytest.fixture(scope="session")
def shared_data():
    """The folder of data sets and reference products."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: the reference products and the comparison script are not in the repository")
    return SHARED / "data"


@pytest.fixture(scope="session")
def official_pipeline(shared_data):
    """The interpreter that has jwst 3.0.0."""
    if not OFFICIAL.exists():
        pytest.skip(f"no interpreter {OFFICIAL}: `make official` installs the official pipeline there")
    return OFFICIAL
