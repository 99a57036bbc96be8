"""What readers of the site meet: that each link leads somewhere, that nothing is fetched; and what its search looks through.

python apps/docs/check.py build/docs
"""

import html.parser
import json
import os
import pathlib
import sys
import urllib.parse

_FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(html.parser.HTMLParser):
    """The links, anchors, fetched files and headings of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.fetched, self.headings = [], set(), [], []
        self._heading, self._title, self.title = None, False, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in _FETCHED and given.get(_FETCHED[tag]):
            self.fetched.append(given[_FETCHED[tag]])
        self._title |= tag == "title"
        if (tag in ("h1", "h2", "h3") or tag == "dt") and given.get("id"):
            self._heading = [tag, given["id"], ""]

    def handle_endtag(self, tag):
        self._title &= tag != "title"
        if self._heading and tag == self._heading[0]:
            self.headings.append(self._heading)
            self._heading = None

    def handle_data(self, data):
        if self._title:
            self.title += data
        if self._heading:
            self._heading[2] += data


def pages_of(out):
    return {p.relative_to(out).as_posix(): Page(p.read_text(encoding="utf-8")) for p in sorted(out.rglob("*.html"))}


def broken_links(out):
    """One line for each link to a page or anchor that is not there, and for each file that would be fetched from elsewhere."""
    out = pathlib.Path(out)
    pages, wrong = pages_of(out), []
    for name, page in pages.items():
        for target in page.fetched:
            if urllib.parse.urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
                wrong.append(f"{name}: fetches {target}")
            elif (
                not urllib.parse.urlsplit(target).scheme
                and not (out / os.path.dirname(name) / urllib.parse.unquote(target)).exists()
            ):
                wrong.append(f"{name}: lacks {target}")
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = urllib.parse.unquote(parts.path)
            to = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            anchor = urllib.parse.unquote(parts.fragment)
            if not (out / to).is_file():
                wrong.append(f"{name}: {link}: there is no such page")
            elif anchor and to in pages and anchor not in pages[to].anchors:
                wrong.append(f"{name}: {link}: the page has no such place")
    return wrong


def search_index(out):
    """A script that sets vitrineSearch to [[text, page title, address]]: of all headings and members, those of pages first."""
    rows, seen = [], set()
    for name, page in pages_of(out).items():
        title = page.title.split(" · ")[0].strip()
        for tag, anchor, text in page.headings:
            text = " ".join(text.replace("¶", "").split())
            if tag == "dt":
                text = text[:110]
            if (text, name) in seen:  # overloads
                continue
            seen.add((text, name))
            rows.append(["h1 h2 h3 dt".split().index(tag), [text, title, name if tag == "h1" else f"{name}#{anchor}"]])
    rows.sort(key=lambda row: row[0])
    return (
        "const vitrineSearch = "
        + json.dumps([row for _, row in rows], ensure_ascii=False).replace("</", "<\\/")
        + ";\n"
    )


if __name__ == "__main__":
    found = broken_links(pathlib.Path(sys.argv[1]))
    print("\n".join(found) if found else "every link leads somewhere")
    sys.exit(1 if found else 0)
