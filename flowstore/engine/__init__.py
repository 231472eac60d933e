"""The engine: takes the events of runs in order, calls handlers, commits what they did."""

from flowstore.engine.engine import Engine
from flowstore.engine.watch import Waiter, Watcher

__all__ = ["Engine", "Waiter", "Watcher"]
