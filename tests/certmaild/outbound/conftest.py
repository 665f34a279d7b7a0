"""A queue at work in a world of its own."""

import pytest
from outbound_support import World


@pytest.fixture
def world() -> World:
    return World()
