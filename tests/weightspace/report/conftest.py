import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.report.config import ReportConfig
from weightspace.report.page import build_report
from weightspace.report.read import read_study

EVERYTHING = ReportConfig(title="A study & more")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A study of every stage; `data` lies in it. Only to be read."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, Plan())
    return folder


@pytest.fixture(scope="session")
def study(root):
    return read_study(root / "data", EVERYTHING)


@pytest.fixture(scope="session")
def report(study):
    return build_report(study, EVERYTHING)
