"""The page in a real browser: it opens from a file, filters, sorts, searches and handles keys."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from batch.records import Abstain, Row, Source, Status
from tests.conftest import Command
from tests.support.browser import BrowserPage, open_page, watch_page
from tests.support.page_rows import (
    EVERY_ROW,
    LABELS,
    OUTPUTS,
    ROWS,
    make_answered_row,
    make_report_page,
    write_photos,
    write_report,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SORTED = ["c.jpg", "d.jpg", "b.jpg", "a.jpg", "e.jpg", "f.jpg", "g.jpg"]
HOSTILE = (
    '<img src=x onerror="document.title=1">.jpg',
    "</script><script>document.title=2</script>.jpg",
    "say \"cheese\" & 'smile', $style ${x}.jpg",
    "\u05e9\u05dc\u05d5\u05dd.jpg",
    "\U0001f600 \u732b.jpg",
    "&lt;b&gt;.jpg",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Path:
    """A page of seven rows; the earlier report has two other answers and lacks one row."""
    folder = tmp_path_factory.mktemp("page")
    write_photos(folder, ROWS, astronaut)
    before = [
        make_answered_row("album/a.jpg", 0.2),
        *ROWS[1:6],
        make_answered_row("album/gone.jpg", 0.9),
    ]
    old = write_report(folder / "old.csv", before)
    return make_report_page(write_report(folder / "results.csv"), old)[0]


@pytest.fixture(scope="module")
def listed(browser: Browser, page: Path) -> Iterator[BrowserPage]:
    """The list view of the page, shared by tests that change only form fields."""
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        yield shown


@pytest.fixture
def shown(browser: Browser, page: Path) -> Iterator[BrowserPage]:
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        yield shown


def test_a_report_of_real_photos_opens_from_its_file_alone(
    browser: Browser, command: Command, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes((photos / "astronaut.jpg").read_bytes()[:900])
    assert command("photos", "-o", "r.csv").returncode == 3
    made = command("report", "r.csv")
    assert made.returncode == 0, made.stderr
    assert made.stderr.startswith("r.html: 4 rows, 3 pictures, ")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    with open_page(browser, tmp_path / "r.html") as shown:
        page = shown.page
        assert page.title() == "r.csv \u2013 batch-label"
        assert "4 photos" in shown.text("#lead")
        card = page.locator("li", has_text="astronaut.jpg")
        assert card.locator("img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        box = card.locator(".box").evaluate("box => box.style.left")
        left, width = (float(rows["photos/astronaut.jpg"][name]) for name in ("face_left", "width"))
        assert float(box.removesuffix("%")) == pytest.approx(100 * left / width, abs=0.1)
        page.click("#failures summary")
        assert "photos/broken.jpg" in shown.text("#failures")
        assert "cpu" in shown.text("#facts")


def test_the_policy_blocks_all_requests(browser: Browser, page: Path) -> None:
    window = browser.new_context()
    with socket.create_server(("127.0.0.1", 0)) as server:
        shown = watch_page(window.new_page())
        shown.page.goto(page.as_uri())
        refused = shown.page.evaluate(
            """async (address) => {
                const refused = [];
                document.addEventListener("securitypolicyviolation", (event) =>
                    refused.push(event.effectiveDirective));
                new Image().src = `${address}x.png`;
                await fetch(address).catch(() => {});
                const script = document.createElement("script");
                script.textContent = "document.title = 'run'";
                document.body.append(script);
                await new Promise((done) => setTimeout(done, 200));
                return [...refused, document.title];
            }""",
            f"http://127.0.0.1:{server.getsockname()[1]}/",
        )
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    window.close()
    assert sorted(refused[:-1]) == ["connect-src", "img-src", "script-src-elem"]
    assert refused[-1] == "results.csv \u2013 batch-label"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, SORTED),
        ({"label": "happy"}, ["c.jpg", "a.jpg"]),
        ({"status": "unsure"}, ["c.jpg", "d.jpg"]),
        ({"status": "failed"}, ["f.jpg", "g.jpg"]),
        ({"from": "60"}, ["d.jpg", "b.jpg", "a.jpg"]),
        ({"from": "60", "to": "90"}, ["d.jpg", "b.jpg"]),
        ({"folder": "other/"}, ["d.jpg", "e.jpg", "f.jpg", "g.jpg"]),
        ({"folder": "nowhere/"}, []),
        ({"search": "ALBUM/"}, ["c.jpg", "b.jpg", "a.jpg"]),
        ({"search": "no bytes"}, ["g.jpg"]),
        ({"search": "jpg", "label": "sad", "folder": "album/"}, ["b.jpg"]),
        ({"sort": "certain"}, ["a.jpg", "b.jpg", "d.jpg", "c.jpg", "e.jpg", "f.jpg", "g.jpg"]),
        ({"sort": "report"}, ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg"]),
        ({"sort": "name", "label": "happy"}, ["a.jpg", "c.jpg"]),
        ({"sort": "changed"}, ["a.jpg", "g.jpg", "c.jpg", "d.jpg", "b.jpg", "e.jpg", "f.jpg"]),
        ({"change": "any"}, ["a.jpg", "g.jpg"]),
        ({"change": "relabelled"}, ["a.jpg"]),
        ({"review": "done"}, []),
    ],
)
def test_fields_filter_and_sort(
    listed: BrowserPage, fields: dict[str, str], names: list[str]
) -> None:
    listed.fill(**fields)
    assert listed.names() == names
    assert listed.text("#count") == f"{len(names)} of 7 match"
    listed.page.click("#clear")
    listed.page.wait_for_timeout(50)
    assert listed.names() == SORTED


def test_totals_failures_and_changes_filter_the_rows(shown: BrowserPage) -> None:
    page = shown.page
    page.click(".tile.status-no_face")
    assert shown.names() == ["e.jpg"]
    page.click("#failures summary")
    assert "empty: 1" in shown.text("#failures")
    page.locator("#failures h3", has_text="empty").get_by_role("button").click()
    assert shown.names() == ["g.jpg"]
    assert "1 new, 1 gone, 0 moved, 0 renamed, 1 relabelled, 0 failed" in shown.text(
        "#changes summary"
    )
    page.click("#changes summary")
    assert "album/gone.jpg" in shown.text("#changes")
    page.locator("#changes p", has_text="relabelled").get_by_role("button").click()
    assert shown.names() == ["a.jpg"]
    assert "was sad" in shown.text("#items li")


def test_a_moved_photo_shows_where_it_was(browser: Browser, tmp_path: Path) -> None:
    old = write_report(
        tmp_path / "old.csv",
        [
            make_answered_row("<b>.jpg", 0.9, content=b"1"),
            make_answered_row("b.jpg", 0.9, content=b"2"),
        ],
    )
    new = write_report(
        tmp_path / "r.csv",
        [
            make_answered_row("x/a.jpg", 0.9, content=b"1"),
            make_answered_row("c.jpg", 0.1, content=b"2"),
        ],
    )
    with open_page(browser, make_report_page(new, old, gallery=0)[0]) as shown:
        shown.page.click("#as-list")
        shown.fill(change="moved")
        assert shown.names() == ["a.jpg"]
        assert "moved from <b>.jpg" in shown.text("#items li")
        shown.fill(change="renamed")
        assert "renamed from b.jpg, was happy" in shown.text("#items li")


def test_plots_have_tables(shown: BrowserPage) -> None:
    for name in ("labels", "confidence", "history"):
        shown.page.click(f"#{name}-table summary")
    assert shown.text("#labels-table tbody").split() == ["happy", "1", "1", "sad", "1", "1"]
    assert "95% to 100%" in shown.text("#confidence-table")
    assert [
        row.split("\t")[0].split(",")[0] for row in shown.text("#history-table tbody").split("\n")
    ] == [
        "old.csv",
        "results.csv",
    ]
    said = shown.page.locator(".plots svg").evaluate_all(
        "plots => plots.map((plot) => plot.getAttribute('aria-label'))"
    )
    assert said == [
        "Answers: happy 2; sad 2",
        "Answers by confidence: the mean is 74%",
        "Shares of answers in 2 reports",
    ]


@pytest.fixture(scope="module")
def every(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """The list view of a report with every status; its earlier report has fewer."""
    folder = tmp_path_factory.mktemp("every")
    old = write_report(folder / "old.csv", [*ROWS, make_answered_row("album/h.jpg", 0.2)])
    report = write_report(folder / "results.csv", EVERY_ROW, OUTPUTS)
    with open_page(browser, make_report_page(report, old)[0]) as shown:
        shown.page.click("#as-list")
        yield shown


def test_abstentions_have_totals_and_filters(every: BrowserPage) -> None:
    page = every.page
    every.fill(sort="doubtful")
    assert every.names() == [
        "i.jpg", "c.jpg", "d.jpg", "b.jpg", "h.jpg", "a.jpg", "e.jpg", "f.jpg", "g.jpg",
    ]  # fmt: skip
    tiles = page.locator("#tiles button").all_inner_texts()
    assert [" ".join(tile.split()) for tile in tiles] == [
        "9 all", "2 ok", "2 unsure", "1 neither", "1 no person", "1 no face", "2 failed",
    ]  # fmt: skip
    page.click(".tile.status-no_person")
    assert every.names() == ["i.jpg"]
    assert every.text("#items .answer").split("\n") == ["no person", "40.0 %", "new"]
    assert page.locator("#items .dot.no_person").count() == 1
    every.fill(status="neither", **{"from": "80"})
    assert every.names() == ["h.jpg"]
    assert "was sad" in every.text("#items li")
    page.click("#clear")


def test_abstentions_are_in_the_plots_and_tables(every: BrowserPage) -> None:
    for name in ("labels", "history"):
        every.page.click(f"#{name}-table summary")
    rows = every.page.locator("#labels-table tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["happy", "1", "1"], ["sad", "1", "1"], ["neither", "1", "\u2013"],
        ["no person", "1", "\u2013"],
    ]  # fmt: skip
    # The earlier report's models could not abstain.
    old, now = every.page.locator("#history-table tbody tr").all_inner_texts()
    assert old.split("\t")[-4:] == ["33.3 %", "66.7 %", "\u2013", "\u2013"]
    assert now.split("\t")[-4:] == ["25.0 %"] * 4
    says = every.page.locator(".plots svg").first.get_attribute("aria-label")
    assert says == "Answers: happy 2; sad 2; neither 1; no person 1"
    legend = every.page.locator("#confidence-table .legend").inner_text()
    assert legend.split("\n") == ["happy", "sad", "neither", "no person"]
    shapes = every.page.locator("#confidence-table .dot").evaluate_all(
        """dots => dots.map((dot) => {
            const { borderRadius, borderWidth } = getComputedStyle(dot);
            return `${borderRadius} ${borderWidth}`;
        })"""
    )
    assert len(set(shapes)) == 3, "told apart without colours"


def test_the_gallery_counts_rows_without_a_picture(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        assert shown.names() == ["c.jpg", "d.jpg", "b.jpg", "a.jpg", "e.jpg"]
        assert (
            shown.text("#hint")
            == "2 of them have no picture in this page: switch to the list to see them."
        )
        shown.fill(search="f.jpg")
        assert (
            shown.text("#hint")
            == "1 of them has no picture in this page: switch to the list to see it."
        )
        shown.fill(search="")
        # The answer to d.jpg rests on the whole photo.
        assert shown.page.locator("li", has_text="d.jpg").locator(".box").count() == 0
        assert shown.page.locator("li", has_text="c.jpg").locator(".box").count() == 1


def test_keys_move_and_open(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        keyboard = shown.page.keyboard

        def focused() -> str:
            return str(
                shown.page.evaluate(
                    """() => {
                        const item = document.activeElement.closest("li");
                        return item?.querySelector(".path bdi").textContent
                            ?? document.activeElement.id;
                    }"""
                )
            )

        keyboard.press("j")
        assert focused() == "c.jpg"
        for key, name in (
            ("j", "d.jpg"),
            ("ArrowRight", "b.jpg"),
            ("k", "d.jpg"),
            ("End", "e.jpg"),
            ("ArrowRight", "e.jpg"),
            ("Home", "c.jpg"),
            ("ArrowLeft", "c.jpg"),
        ):
            keyboard.press(key)
            assert focused() == name, key
        keyboard.press("Enter")
        assert shown.text("#closeup-name") == "c.jpg"
        keyboard.press("ArrowRight")
        assert shown.text("#closeup-name") == "d.jpg"
        assert "the whole photo" in shown.text("#closeup")
        keyboard.press("Escape")
        assert focused() == "d.jpg"
        keyboard.press("/")
        assert focused() == "search"
        keyboard.type("a?1")  # keys are letters there
        assert shown.page.input_value("#search") == "a?1"
        shown.page.click("#help")
        assert "clear the correct answer" in shown.text("#keys")
        keyboard.press("Escape")
        assert not shown.page.locator("#keys").is_visible()


def test_closing_an_enlarged_photo_returns_the_focus_before_the_next_key(
    browser: Browser, page: Path
) -> None:
    with open_page(browser, page) as shown:
        for key in ("j", "Enter", "ArrowRight"):
            shown.page.keyboard.press(key)
        # Listens behind the page itself, to the very event that closes.
        shown.page.evaluate(
            """() => addEventListener("keydown", () => {
                window.focused = document.activeElement.closest("li")?.textContent;
            }, { once: true })"""
        )
        shown.page.keyboard.press("Escape")
        assert "d.jpg" in str(shown.page.evaluate("window.focused"))
        shown.page.keyboard.press("Enter")
        there = shown.page.evaluate(
            """() => {
                const buttons = () => [...document.querySelectorAll("#closeup button")];
                for (const text of ["Next", "Close"])
                    buttons().find((button) => button.textContent === text).click();
                return document.activeElement.textContent;
            }"""
        )
        assert "b.jpg" in there
        shown.page.keyboard.press("/")
        shown.page.wait_for_timeout(50)  # for whatever comes late
        assert shown.page.evaluate("document.activeElement.id") == "search"


def test_names_with_markup_are_shown_as_text(
    browser: Browser, tmp_path: Path, astronaut: Image.Image
) -> None:
    rows = [make_answered_row(f"odd names/{name.replace('/', '|')}", 0.9) for name in HOSTILE]
    write_photos(tmp_path, rows, astronaut.resize((64, 64)))
    page, _ = make_report_page(write_report(tmp_path / "r.csv", rows))
    text = page.read_text(encoding="utf-8")
    assert not any(name.replace("/", "|") in text for name in HOSTILE)
    with open_page(browser, page) as shown:
        assert shown.page.title() == "r.csv \u2013 batch-label"
        shown.page.click("#as-list")
        shown.fill(sort="report")
        assert shown.names() == [name.replace("/", "|") for name in HOSTILE]
        shown.page.keyboard.press("j")
        shown.page.keyboard.press("Enter")
        assert HOSTILE[0] in shown.text("#closeup")


def test_labels_with_markup_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    labels = ("</script><img src=x onerror=document.title=1>", "$x^2$ & \u5929\u6c17", "=1+1")
    report = tmp_path / "r.jsonl"
    names = [f"p_{label}" for label in labels]
    rest = dict.fromkeys(names, 0.1) | {"source": "face", "faces": 0, "error": None}
    said = [labels[0], labels[1], f"'{labels[2]}"]
    lines = [
        {"path": f"{n}.jpg", "status": "ok", "label": label, "confidence": 0.8, **rest}
        for n, label in enumerate(said)
    ]
    report.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_page(browser, make_report_page(report)[0]) as shown:
        assert shown.page.title() == "r.jsonl \u2013 batch-label"
        options = shown.page.locator("#label option").all_text_contents()
        assert options == ["all", *said]
        assert labels[1] in shown.page.locator(".plots svg").first.text_content()  # type: ignore[operator]
        choices = shown.page.locator("li .choices").first.locator("option")
        assert choices.all_text_contents() == [
            "correct answer \u2026", *said, "neither", "no person",
        ]  # fmt: skip


def test_many_labels_are_chosen_from_a_list(browser: Browser, tmp_path: Path) -> None:
    labels = tuple(f"mood {number}" for number in range(12))
    report = tmp_path / "r.jsonl"
    shares = {f"p_{label}": 0.05 for label in labels}
    line = {"path": "a.jpg", "status": "ok", "label": "mood 3", "confidence": 0.4, "error": None}
    report.write_text(json.dumps(line | shares) + "\n")
    with open_page(browser, make_report_page(report)[0]) as shown:
        options = shown.page.locator("li select option").all_text_contents()
        assert options == ["correct answer \u2026", *labels, "neither", "no person"]
        shown.page.locator("li select").select_option(Abstain.NO_PERSON.value)
        assert shown.text("#done") == "1 of 1"
        assert "5 others 0" in str(
            shown.page.locator(".plots svg").first.get_attribute("aria-label")
        )


def test_a_page_without_rows_opens(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, make_report_page(write_report(tmp_path / "r.csv", ()))[0]) as shown:
        assert shown.text("#count") == "0 of 0 match"
        assert shown.text("#changes summary") == "Changes: no earlier report"
        shown.page.keyboard.press("j")


def test_each_face_has_a_card_with_its_own_picture(
    browser: Browser, tmp_path: Path, astronaut: Image.Image
) -> None:
    one = make_answered_row("two.jpg", 0.9)
    assert one.answer is not None
    other = make_answered_row("two.jpg", 0.3)
    assert other.answer is not None
    row = Row(one.path, Status.OK, one.answer, Source.FACE, (one.answer, other.answer), 512, 512)
    write_photos(tmp_path, [row], astronaut)
    page, made = make_report_page(write_report(tmp_path / "r.csv", [row], LABELS, per_face=True))
    assert made.pictures == 2
    with open_page(browser, page) as shown:
        assert shown.names() == ["two.jpg, face 2", "two.jpg, face 1"]
        box = shown.page.locator(".box").first.evaluate("box => parseFloat(box.style.width)")
        assert box == pytest.approx(100 * 110 / 390, abs=0.1)  # of the picture, not of the photo
