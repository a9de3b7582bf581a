"""Follows the links of a site's pages, as somebody does who opens everything."""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from django.http.response import HttpResponseBase
from django.test import Client

from tests.support.admin import text_of

OF_A_KIND = 5  # pages of one kind: filters can be combined without an end, and each event has its page


class _Reader(HTMLParser):
    """Reads the attributes of a page's tags."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def attributes_of(response: HttpResponseBase) -> list[tuple[str, str, str]]:
    """Return the tag, name and value of each attribute on a page."""
    reader = _Reader()
    reader.feed(text_of(response))
    return reader.attributes


def links_of(response: HttpResponseBase, address: str) -> list[str]:
    """Return the addresses to which the links of a page at this address lead."""
    hrefs = [value for tag, name, value in attributes_of(response) if (tag, name) == ("a", "href")]
    # To `urljoin` a bare `?` is no query, to a browser an empty one.
    path = urlsplit(address).path
    return [
        path if href == "?" else urljoin(address, href) for href in hrefs if not href.startswith(("#", "javascript:"))
    ]


def crawl(client: Client, *starts: str, within: str) -> Iterator[tuple[str, HttpResponseBase]]:
    """Yield each page that links lead to from `starts`, as long as they stay `within` a path; files are not read."""
    waiting, seen, of_kind = [*starts], {*starts}, Counter[str]()
    while waiting:
        address = waiting.pop(0)
        response = client.get(address)
        yield address, response
        if response.status_code != 200 or response.streaming:
            continue
        for link in links_of(response, address):
            path = urlsplit(link).path
            kind = re.sub("[0-9]+", "0", path)
            if path.startswith(within) and link not in seen and of_kind[kind] < OF_A_KIND:
                of_kind[kind] += 1
                seen.add(link)
                waiting.append(link)
