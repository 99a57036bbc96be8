"""What holds for all calls."""

import os
import sys


class Settings:
    """`vitrine.settings`: attributes that may be set.

    columns    how wide tables may be in what is printed (default: 100)
    progress   True, False, or None: a bar where stderr is a terminal or a notebook (default)
    pages      True: results make their page at once; False: when they are asked for it; None: at once in a notebook (default)
    """

    def __init__(self):
        self.columns = 100
        self.progress = None
        self.pages = None

    def __setattr__(self, name, value):
        if name not in ("columns", "progress", "pages"):
            from ._vitrine import UsageError

            raise UsageError(f"there is no setting '{name}': they are columns, progress and pages")
        super().__setattr__(name, value)

    def __repr__(self):
        return f"columns={self.columns}, progress={self.progress}, pages={self.pages}"


settings = Settings()


def in_notebook():
    """Whether results are shown by a notebook's front end."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def shows_progress():
    if settings.progress is not None:
        return settings.progress
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb")


def makes_pages():
    return in_notebook() if settings.pages is None else settings.pages
