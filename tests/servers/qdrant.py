"""A real Qdrant server as a pytest fixture; it has to be there already, since no package carries one."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def qdrant_url() -> str:
    """The server at `QDRANT_URL`; tests make collections of their own there and remove them."""
    url = os.environ.get("QDRANT_URL")
    if not url:
        pytest.skip("no Qdrant server: set QDRANT_URL, for example after `make servers`")
    return url
