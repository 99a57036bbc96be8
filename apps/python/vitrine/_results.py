"""Results: what a verb found, as numbers, text, JSON and a page."""

import json as _json

from ._vitrine import UsageError

_MAIN = ("sweep", "effect", "edge/score", "pattern")  # what `values` is, where there are several arrays


class Result:
    """What an analysis found.

    In a terminal it prints as the program's table, in a notebook it is the page of the result. Fields of the JSON are
    attributes: `result.strongest`, `result["strongest"]`. Arrays are `values` (of a result with one), `tensors` (by name),
    with `axes` and, along axes whose places have names, `places`.
    """

    def __init__(self, verb, found, again=None):
        self._verb = verb
        text = found["json"] if found["json"] is not None else found["written"]
        self._json = _json.loads(text)
        self._text = found["text"]
        self._page = found["page"]
        self._again = again  # asks once more, for the page
        self.tensors = found["tensors"]
        self._axes = found["axes"]
        self.places = found["places"]

    # ---- numbers --------------------------------------------------------------------------------
    @property
    def json(self):
        """All of it, as `vitrine VERB --format json` prints it."""
        return self._json

    @property
    def command(self):
        """The command that gives the same."""
        return self._json.get("meta", {}).get("command", "")

    @property
    def values(self):
        """The array, of a result that has one: float32 or float64, along `axes`."""
        return self.tensors[self._main()]

    @property
    def axes(self):
        """What the axes of `values` are."""
        return tuple(self._axes.get(self._main(), ()))

    def _has_main(self):
        return len(self.tensors) == 1 or any(name in self.tensors for name in _MAIN)

    def _main(self):
        for name in _MAIN:
            if name in self.tensors:
                return name
        if len(self.tensors) == 1:
            return next(iter(self.tensors))
        if not self.tensors:
            raise UsageError(f"this result of {self._verb} has no array; its fields are {', '.join(self._json)}")
        raise UsageError(
            f"this result of {self._verb} has several arrays: give tensors[NAME], one of {', '.join(self.tensors)}"
        )

    def axes_of(self, name):
        """What the axes of one of several tensors are."""
        return tuple(self._axes.get(name, ()))

    def __getitem__(self, name):
        return self._json[name]

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._json[name]
        except KeyError:
            raise AttributeError(
                f"this result of {self._verb} has no '{name}'; its fields are {', '.join(self._json)}"
            ) from None

    def __dir__(self):
        return sorted({*super().__dir__(), *self._json})

    # ---- forms ----------------------------------------------------------------------------------
    def __str__(self):
        return self._text if self._text is not None else _summary(self._verb, self._json)

    def __repr__(self):
        return str(self).rstrip("\n")

    def to_json(self, file=None):
        """The JSON as text, or written to a file."""
        text = _json.dumps(self._json, ensure_ascii=False)
        if file is None:
            return text
        with open(file, "w", encoding="utf-8") as out:
            out.write(text + "\n")
        return None

    @property
    def html(self):
        """The page: one HTML file that needs nothing else. Raises UsageError where the verb makes none of such a result."""
        if not self._page and self._again is not None:
            try:
                self._page = self._again()["page"]
            except UsageError as error:
                raise UsageError(f"there is no page of this result of {self._verb}") from error
        if not self._page:
            raise UsageError(f"there is no page of this result of {self._verb}")
        return self._page

    def to_html(self, file):
        """Writes the page."""
        page = self.html
        with open(file, "w", encoding="utf-8") as out:
            out.write(page)

    def to_pandas(self, name=None):
        """A pandas DataFrame: of an array (`name`, or the only one) its elements with a column for each axis; of a list of
        the JSON (`name`, or the first one) its rows. Needs pandas."""
        import pandas

        lists = {k: v for k, v in self._json.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
        if name is None:
            name = next(iter(lists), None) if not self._has_main() and lists else self._main()
        if name in self.tensors:
            array = self.tensors[name]
            axes = self._axes.get(name) or [f"axis{i}" for i in range(array.ndim)]
            levels = [self.places.get(f"{name}:{a}", self.places.get(a)) for a in axes]
            levels = [list(names) if names and len(names) == n else range(n) for names, n in zip(levels, array.shape)]
            index = pandas.MultiIndex.from_product(levels, names=axes) if array.ndim else None
            return (
                pandas.Series(array.reshape(-1), index=index, name="value").reset_index()
                if array.ndim
                else pandas.DataFrame({"value": [float(array)]})
            )
        if name not in lists:
            known = ", ".join([*self.tensors, *lists]) or "none"
            raise UsageError(f"this result of {self._verb} has no array and no table '{name}'; those it has: {known}")
        return pandas.json_normalize(lists[name])

    def _repr_html_(self):
        from ._notebook import frame

        try:
            return frame(self.html)
        except UsageError:
            return None


def _short(value, width=60):
    text = _json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def _summary(verb, found):
    """What the JSON holds, a line for each field: of a long list how many there are, and the first."""
    lines = [f"result of {verb}"]
    for name, value in found.items():
        if name == "meta":
            continue
        if isinstance(value, list) and len(value) > 3:
            lines.append(f"  {name}: {len(value)}, the first {_short(value[0])}")
        else:
            lines.append(f"  {name}: {_short(value)}")
    return "\n".join(lines)
