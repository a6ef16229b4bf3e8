"""The report of one run as text; `test_in_a_browser` opens it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from striate.reports.evidence import Confusion, Evidence, Table
from striate.reports.run import run_report

HOSTILE = "<img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """Elements with their attributes, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))


def parsed(page: str) -> list[tuple[str, dict[str, str | None]]]:
    seen = Seen()
    seen.feed(page)
    return seen.elements


def stored(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="cells">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_nothing_is_asked_of_any_network(classification: Evidence) -> None:
    for name, attributes in parsed(run_report(classification)):
        assert name not in ("link", "iframe", "object", "base"), name
        for key in ("src", "href", "action", "srcset"):
            value = attributes.get(key) or "#"
            assert value.startswith(("#", "data:image/")), (name, value)
    assert "url(" not in run_report(classification)
    assert "@import" not in run_report(classification)


def test_names_with_html_stay_text(classification: Evidence) -> None:
    page = run_report(classification)
    assert HOSTILE not in page
    images = [attributes for name, attributes in parsed(page) if name == "img"]
    assert images
    assert all("onerror" not in image for image in images)


def test_a_name_cannot_end_the_data_of_the_matrix(classification: Evidence) -> None:
    data = stored(run_report(classification))
    assert data["pictures"][0]["key"] == HOSTILE
    assert data["cells"]["2,2"]["title"] == "</script>, rightly: 99 pictures, 1 of them shown"


def test_the_policy_lets_this_script_and_style_run_and_no_other(classification: Evidence) -> None:
    page = run_report(classification)
    policy = next(a["content"] for n, a in parsed(page) if n == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "unsafe" not in policy
    for name, kind in (("style", ""), ("script", ' type="module"')):
        content = re.search(rf"<{name}{kind}>(.*?)</{name}>", page, re.S)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not any("style" in a or any(key.startswith("on") for key in a) for _, a in parsed(page))


def test_every_part_is_in_the_contents(classification: Evidence) -> None:
    page = run_report(classification)
    anchors = [a["href"] for n, a in parsed(page) if n == "a"]
    ids = {a["id"] for _, a in parsed(page) if "id" in a}
    assert {anchor.removeprefix("#") for anchor in anchors if anchor} <= ids
    assert len(anchors) == 9 + 1


def test_what_is_left_out_is_said(classification: Evidence) -> None:
    page = run_report(classification)
    assert "3 more are not shown." in page
    assert "2 more are listed by `striate check`." in page


def test_parts_that_a_task_lacks_are_not_there(classification: Evidence) -> None:
    page = run_report(replace(classification, calibration=None, network=None, curves=(), galleries=()))
    assert not {'id="calibration"', 'id="network"', 'id="training"', 'id="pictures-1"'} & set(page.split())


def test_each_picture_has_words_for_those_who_cannot_see_it(classification: Evidence) -> None:
    images = [a for n, a in parsed(run_report(classification)) if n == "img"]
    assert all(image["alt"] for image in images)


def test_small_pictures_are_enlarged_by_whole_pixels(classification: Evidence) -> None:
    images = [a for n, a in parsed(run_report(classification)) if n == "img" and a["width"] != "216"]
    assert {(image["width"], image["height"], image["class"]) for image in images} == {
        ("96", "96", "squares")
    }


def test_pixels_are_shown_in_percent_of_the_truth(segmentation: Evidence) -> None:
    cells = re.findall(r'<td class="(\w+) (level\d+)">([^<]*)</td>', run_report(segmentation))
    assert ("right", "level8", "80.0") in cells
    assert ("wrong", "level2", "20.0") in cells


def test_of_many_classes_the_most_frequent_mistakes_are_listed(classification: Evidence) -> None:
    count = 40
    counts = [[50 * (row == column) for column in range(count)] for row in range(count)]
    counts[3][7], counts[9][2] = 5, 8
    names = tuple(f"class {place}" for place in range(count))
    many = Confusion(names, tuple(map(tuple, counts)), "pictures")
    page = run_report(replace(classification, confusion=many))
    assert page.index("class 9 taken for class 2: 8") < page.index("class 3 taken for class 7: 5")
    assert "of 2 kinds of mistakes" in page


def test_unknown_values_are_dashes_and_sort_below_all(classification: Evidence) -> None:
    page = run_report(
        replace(classification, classes=Table("t", classification.classes.columns[:2], (("a", None),)))
    )
    assert '<td class="number" data-order="-1">–</td>' in page
