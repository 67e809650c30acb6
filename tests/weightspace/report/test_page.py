import re
from html.parser import HTMLParser

import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.report.config import ReportConfig
from weightspace.report.page import build_report
from weightspace.report.read import read_study

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Collects tags, and checks that each is closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def page(report):
    return Page(report.html)


def build(folder, *stages):
    config = ReportConfig(title="t")
    return build_report(read_study(write_study(folder, Plan(stages=stages)), config), config)


def test_nothing_is_loaded_from_elsewhere(report, page):
    sources = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not page.all("script")
    assert "url(" not in report.html
    assert "@import" not in report.html


def test_drawings_load_nothing_from_elsewhere(report):
    for plot in report.plots:
        links = re.findall(rb'(?:href|src)="([^"]*)"', plot.svg)
        assert all(link.startswith((b"data:", b"#")) for link in links), plot.name


def test_every_drawing_says_what_it_shows(page, report):
    images = page.all("img")
    assert len(images) == len(report.plots)
    assert all(len(image["alt"]) > 20 for image in images)


def test_every_table_has_a_caption(page):
    assert len(page.all("table")) == len(page.all("caption")) > 10


def test_every_link_within_the_page_leads_somewhere(page):
    anchors = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= anchors


def test_the_page_fits_a_phone(page):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert len(page.all("table")) == sum(a.get("class") == "scroll" for a in page.all("div"))


def test_text_is_escaped(report):
    assert "<h1>A study &amp; more</h1>" in report.html


def test_the_page_is_light(report):
    assert len(report.html) < 3e6


def test_the_same_study_has_the_same_page(tmp_path):
    first, second = (build(tmp_path / name, "samples") for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("stage", ["zoo", "probes", "samples", "transfer"])
def test_a_stage_alone_has_a_section_of_its_own_and_no_other(tmp_path, stage):
    html = build(tmp_path, stage).html
    assert re.findall(r'<section id="(\w+)">', html) == [stage, "origin"]


def test_a_hyper_representation_without_embeddings_shows_its_training(tmp_path):
    report = build(tmp_path, "hyperrep")
    assert [plot.name for plot in report.plots] == [
        f"hyperrep_sane_{t}" for t in ("loss", "reconstruction", "contrast")
    ]


def test_best_on_unseen_members_is_bold_and_nothing_else(report):
    tables = re.findall(r"<table.*?</table>", report.html, re.DOTALL)
    table = next(t for t in tables if "<span>Test accuracy: R" in t)
    headings = re.findall(r'<th scope="col">(.*?)</th>', table)[1:]
    rows = {row.split("</th>")[0]: row for row in table.split('<th scope="row">')[1:]}
    bold = {
        name: [heading for heading, cell in zip(headings, re.findall("<td.*?>", row), strict=True) if "best" in cell]
        for name, row in rows.items()
    }
    assert bold.pop("statistics s(W), 14 a layer") == [heading for heading in headings if "unseen" in heading]
    assert not any(bold.values())
