"""Both databases for the tests of C-FIND."""

from tests.index.conftest import fresh as fresh
