import re
from html.parser import HTMLParser

import numpy as np
import pytest

import estimators as est
from estimators.report import Badge, Page, figures, number

matplotlib = pytest.importorskip("matplotlib")

HOSTILE = '<script>alert("x")</script>'


class Reader(HTMLParser):
    """Counts tags, keeps the text of cells, and checks that what is opened is closed."""

    VOID = {"meta", "img", "br", "link", "hr", "input"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.open, self.urls = {}, [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.urls += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.urls += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.cells and self.open and {"td", "th"} & set(self.open):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = {HOSTILE: rng.normal(size=60), "$a$ & $b$": rng.normal(size=60), "label": rng.choice(["u", "v"], 60)}
    y = {HOSTILE: rng.normal(2, 1, size=60), "$a$ & $b$": rng.normal(size=60), "label": rng.choice(["u", HOSTILE], 60)}
    path = tmp_path_factory.mktemp("report") / "a.html"
    est.compare(x, y, permutations=99, progress=False).to_html(path, command=f"divergences compare {HOSTILE}")
    return path.read_text(encoding="utf-8")


def test_the_report_is_self_contained(report):
    assert len(report.encode()) < 2_000_000
    assert "http" not in report.replace("http-equiv", "")
    assert all(url.startswith(("data:", "#")) for url in Reader(report).urls)
    assert "default-src 'none'" in report


def test_names_stay_text(report):
    reader = Reader(report)
    assert reader.tags["script"] == 1  # the page's own
    assert HOSTILE in reader.cells
    assert "<script>alert" not in report


def test_the_report_says_what_was_done(report):
    assert "2 of 3 columns differ" in report
    assert "seed 0" in report
    assert "numpy " + np.__version__ in report
    reader = Reader(report)
    for head in ("effect", "decision", "distance", "unit", "method"):
        assert any(cell.startswith(head) for cell in reader.cells)


def test_an_image_has_a_heat_map(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 3, 4)), rng.random((40, 3, 4))
    y[:, 1, 2] += 3
    found = est.compare(x, y, permutations=99, progress=False)
    found.to_html(tmp_path / "a.html")
    assert "Where in the image" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert found.table[0]["column"] == "pixel 1,2"


def test_many_columns_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    found = est.compare(rng.normal(size=(20, 700)), rng.normal(size=(20, 700)), permutations=99, progress=False)
    found.to_html(tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 2_000_000
    assert "The first 500 of 700 columns" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_pages_hold_every_kind_of_section():
    page = Page("Title", "<subtitle>")
    page.text("Text", ["one", "two & three"], lead=True)
    page.table(
        "Table", ["name", ("value", "m")], [["a", 1.5], ["b", None], [Badge("c", "alert"), (0.1, 0.2)]], note="n"
    )
    page.figure("Figure", figures.lines({"loss": ([1, 2], [3, 4])}, "step", "loss").figure, "caption", 'alt "quoted"')
    page.figure("Bitmap", figures.heat_map(np.eye(3)).figure, "caption", "alt", format="png")
    page.images("Images", np.random.default_rng(0).random((3, 4, 4)), "caption", "digit", labels=["1", "2", "<3>"])
    page.footer(["command", "seed 1"])
    text = page.html()
    reader = Reader(text)
    assert (reader.tags["svg"], reader.tags["img"], reader.tags["table"]) == (1, 4, 1)
    assert "&lt;subtitle&gt;" in text
    assert "[0.1, 0.2]" in reader.cells
    assert "currentColor" in text
    assert 'aria-label="alt &#34;quoted&#34;"' in text


def test_two_figures_share_no_identifiers():
    page = Page("Title")
    for _ in range(2):
        page.figure("Figure", figures.null_histogram(3.0, np.arange(9.0), p=0.1).figure, "caption", "alt")
    identifiers = re.findall(r'\bid="([^"]+)"', page.html())
    assert len(identifiers) == len(set(identifiers)) > 0


def test_rows_must_fit_the_columns():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Page("t").table("h", ["a", "b"], [["x"]])


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4, 2), (2, 3, 4, 4, 4)])
def test_images_must_be_images(shape):
    with pytest.raises(ValueError, match="images must be"):
        Page("t").images("h", np.zeros(shape), "c", "a")


def test_png_is_read_back(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from io import BytesIO

    from estimators.report.page import png

    for shape in ((5, 7), (5, 7, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.testing.assert_array_equal(np.asarray(image.open(BytesIO(png(pixels)))), pixels)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (999.6, "1,000"),
        (0.05, "0.05"),
        (7.8e-5, "0.000078"),
        (1e9, "1×10⁹"),
        (float("nan"), "not a number"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_figures_leave_global_state_alone(report):
    matplotlib.rcdefaults()
    before = dict(matplotlib.rcParams)
    page = Page("t")
    page.figure("h", figures.ecdfs({"a": ([1, 2], [2, 3])}), "c", "a")
    assert dict(matplotlib.rcParams) == before


def test_contrast_of_the_theme():
    # WCAG 2: text on its background at least 4.5, in both schemes
    style = Page("t").html()

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    themes = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    assert len(themes) == 2
    pairs = [("ink", "page"), ("ink", "card"), ("muted", "page"), ("muted", "card"), ("muted", "quiet")]
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", theme))
        for ink, ground in [*pairs, ("alert-ink", "alert"), ("calm-ink", "calm"), ("link", "page")]:
            a, b = sorted([luminance(colours[ink]), luminance(colours[ground])])
            assert (b + 0.05) / (a + 0.05) >= 4.5, (ink, ground)
        for mark in (figures.REFERENCE, figures.CURRENT):
            a, b = sorted([luminance(mark), luminance(colours["page"])])
            assert (b + 0.05) / (a + 0.05) >= 3, mark
