"""One file is made of page and data, and data stay data."""

from __future__ import annotations

import json
import re

import pytest
from payloads import payload

from hubdelta.explorer.page import render

BREAKING = "</script><script>x()</script><!--<script>\u2028\u2029&lt;\ud83d"


def data_of(page: str) -> str:
    (data,) = re.findall(
        r'<script id="payload" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    return data


def test_no_text_ends_the_data_early():
    text = json.dumps({"format": 1, "name": BREAKING}, ensure_ascii=False)
    page = render(text)
    assert json.loads(data_of(page))["name"] == BREAKING
    assert not set("<>&\u2028\u2029") & set(data_of(page))
    assert page.count("<script") == render(payload(())).count("<script")
    page.encode("utf-8")


def test_the_hole_is_filled_once():
    assert "{{" not in render(payload(())).replace(data_of(render(payload(()))), "")
    text = json.dumps({"format": 1, "name": "{{payload}}\\1\\g<0>"})
    assert json.loads(data_of(render(text))) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 2}', '{"format": 1, "x": NaN}', "{"])
def test_what_the_page_cannot_show_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        render(text)


def test_the_policy_forbids_every_request():
    page = render(payload(()))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for allowed in (rules["script-src"], rules["style-src"]):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", allowed)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page.split("<script")[0])
