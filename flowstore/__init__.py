"""flowstore: event-driven runs that persist, resume after a crash, and can be replayed."""

from flowstore.context import Context
from flowstore.door import Limits
from flowstore.errors import FlowstoreError
from flowstore.events import Receipt, WorkflowEvent
from flowstore.manager import WorkflowManager
from flowstore.routing import Retry
from flowstore.run import Run

__version__ = "0.1.0"

__all__ = [
    "Context",
    "FlowstoreError",
    "Limits",
    "Receipt",
    "Retry",
    "Run",
    "WorkflowEvent",
    "WorkflowManager",
    "__version__",
]
