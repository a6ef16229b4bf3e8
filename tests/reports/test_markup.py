from striate.reports.markup import Markup, joined, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b & c", tag("b", "d")) == "<p>a &lt; b &amp; c<b>d</b></p>"


def test_attributes_cannot_be_left() -> None:
    assert tag("a", href='" onclick="alert(1)') == '<a href="&quot; onclick=&quot;alert(1)"></a>'


def test_names_of_attributes_are_those_of_html() -> None:
    made = tag("div", class_="x", aria_label="y", hidden=True, title=None, draggable=False, tabindex=0)
    assert made == '<div class="x" aria-label="y" hidden tabindex="0"></div>'


def test_void_elements_have_no_end() -> None:
    assert tag("img", src="data:,") == '<img src="data:,">'


def test_names_that_are_no_utf_8_are_spelt_out() -> None:
    assert tag("p", "a\udcffb").encode() == b"<p>a\\udcffb</p>"


def test_joined_escapes_what_is_not_markup() -> None:
    assert joined(("<", Markup("<br>"))) == "&lt;<br>"
