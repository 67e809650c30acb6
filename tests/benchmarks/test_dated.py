import json

import pytest

from benchmarks.dated import write_report
from weightspace.config import BadInput


def test_runs_of_a_day_go_into_one_report(tmp_path):
    first = write_report("zoo", tmp_path, {"figures": {"speed": 2.0}})
    second = write_report("zoo", tmp_path, {"figures": {"speed": 3.0}})
    if first != second:  # it was midnight
        second = write_report("zoo", tmp_path, {"figures": {"speed": 3.0}})
    report = json.loads(second.read_text())
    assert report["command"] == "python -m benchmarks zoo"
    assert report["runs"][-1]["figures"] == {"speed": 3.0}
    assert {"time", "machine", "torch", "commit", "changed"} <= set(report["runs"][0])


@pytest.mark.parametrize("content", ["", "[]", '{"runs": 3}'])
def test_a_file_that_is_no_report_is_left_alone_and_told(tmp_path, content):
    path = write_report("zoo", tmp_path, {})
    path.write_text(content)
    with pytest.raises(BadInput, match="move it away"):
        write_report("zoo", tmp_path, {})
    assert path.read_text() == content
