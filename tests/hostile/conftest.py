import pytest


def pytest_addoption(parser):
    parser.addoption("--cases", type=int, default=100)


@pytest.fixture
def cases(request):
    return request.config.getoption("--cases", 100)
