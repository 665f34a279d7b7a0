"""An authority whose certificates the courier trusts, and a courier."""

import pytest
import tls_support
from courier_support import Post
from tls_support import Authority


@pytest.fixture(scope="module")
def root() -> Authority:
    return tls_support.authority()


@pytest.fixture
def post(root: Authority) -> Post:
    return Post(root)
