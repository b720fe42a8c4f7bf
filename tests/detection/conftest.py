import pytest

from tests import detectors


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """See `detectors.laid_out`; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("detection")
    detectors.laid_out(folder)
    return folder


@pytest.fixture(scope="package")
def pairs(place):
    return detectors.pairs_of(place)
