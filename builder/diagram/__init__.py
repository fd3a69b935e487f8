"""The architecture of one host as a picture: `svg(spec)` gives the file, the same bytes for the same spec.
With marks it also says what was seen of the host, at the place that each is about.

`content` says what is shown, in words and by the values of spec and firewall; `placing` gives every box, line and text
its place; `scene` has these as values, with how wide a text is; `drawing` writes them as SVG, in colours for light and
dark. Each imports only those behind it in reverse order. Nothing is read or written, no program lays anything out: the
way through a host is always the same, from the world through the firewall and the proxy to a stack's sockets.
"""

from builder.diagram.content import Mark
from builder.diagram.drawing import svg

__all__ = ["Mark", "svg"]
