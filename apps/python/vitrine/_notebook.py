"""Pages in notebooks: each in a frame of its own, so that several live side by side and none reaches the notebook."""

import html


def frame(page, height=520):
    """A page in a sandboxed frame. Scripts run inside it, without an origin: they reach neither the notebook nor a server."""
    return (
        f'<iframe sandbox="allow-scripts" style="width: 100%; height: {height}px; border: 1px solid #8884; border-radius: 4px" '
        f'srcdoc="{html.escape(page, quote=True)}"></iframe>'
    )
