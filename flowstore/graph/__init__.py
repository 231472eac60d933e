"""Which handlers of a workflow get which events, and what they emit: from its code, and from runs.

Nothing of the code is run.
"""

from flowstore.graph.build import Graph, build
from flowstore.graph.mermaid import mermaid
from flowstore.graph.tree import Line, tree

__all__ = ["Graph", "Line", "build", "mermaid", "tree"]
