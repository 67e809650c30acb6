import json

import pytest

from tasks.report import make_report
from tests.weightspace.report.made_up import Plan, write_study
from weightspace.config import BadInput
from weightspace.record import read_record
from weightspace.report.config import ReportConfig

CONFIG = ReportConfig(title="t")
STAGES = ("samples", "transfer")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_study(folder, Plan(stages=STAGES))
    make_report("all", CONFIG, folder)
    return folder


def list_bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_writes_page_drawings_figures_and_record(root):
    folder = root / "data" / "report" / "all"
    record = read_record(folder)
    assert {"report.html", "metrics.json", "plots/samples_main_accuracy.svg"} <= set(record.files)
    assert set(record.inputs) == {"samples/main", "transfer/digits", "transfer/mnist5k"}


def test_metrics_are_json_with_dotted_keys(root):
    metrics = json.loads((root / "data" / "report" / "all" / "metrics.json").read_text())
    assert 0 < metrics["transfer"]["digits"]["scratch"]["accuracy_at"]["1"] < 1


def test_a_second_report_has_the_same_bytes(root):
    before = list_bytes(root / "data" / "report" / "all")
    make_report("all", CONFIG, root)
    assert list_bytes(root / "data" / "report" / "all") == before


def test_a_damaged_output_leaves_the_old_report(tmp_path):
    data = write_study(tmp_path, Plan(stages=("transfer",)))
    make_report("all", CONFIG, tmp_path)
    before = list_bytes(data / "report")
    (data / "transfer" / "digits" / "curves.parquet").write_bytes(b"short")
    with pytest.raises(BadInput, match=r"curves.parquet: 5 bytes"):
        make_report("all", CONFIG, tmp_path)
    assert list_bytes(data / "report") == before
