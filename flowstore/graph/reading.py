"""What the code of a handler says that it emits, submits and waits for; nothing of it is run."""

from __future__ import annotations

import ast
import copy
import dataclasses
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.errors import EventTypeError
from flowstore.events import DEADLINE, PROGRESS, WorkflowEvent
from flowstore.graph.code import UNKNOWN, Scope, Sources, own, parts_of, plain
from flowstore.graph.mention import EMITS, SCHEDULES, SUBMITS, WAITS, Mention
from flowstore.registry import is_typed
from flowstore.routing import EVERYTHING, Outcome
from flowstore.task import ExternalTask, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flowstore.registry import EventTypes
    from flowstore.routing import Handler

_DEEPEST: Final = 8
_LONGEST: Final = 100
_SAME: Final = (copy.copy, copy.deepcopy, dataclasses.replace, list, tuple, sorted, reversed, iter)
_OF_ANOTHER: Final = frozenset({"model_copy", "copy"})
_LOOKS: Final = frozenset({isinstance, repr, str, print, type, id, len, dict, bool})

Names = set[str | None]
"""Names of events; None stands for one that only running the code would tell."""


class Reader:
    """Reads the code of one workflow's handlers.

    Args:
        types: the classes whose objects are events.
    """

    def __init__(self, types: EventTypes) -> None:
        self.types = types
        self.sources = Sources()

    def read(self, handler: Handler) -> tuple[Mention, ...]:
        """Return what the handler does, in the order of what it says, without repeats."""
        scope = self.scope_of(handler.function)
        if scope is None:
            return (Mention(EMITS, None),)
        free = [name for name in scope.parameters if name not in scope.bound]
        scope.event = free[0] if free else None
        scope.context = free[1] if handler.second == "context" and len(free) > 1 else None
        return tuple(dict.fromkeys(_Reading(self, handler).read(scope)))

    def scope_of(self, function: Any) -> Scope | None:
        """Return a function with its source; None if it has none that can be found."""
        if not callable(function):
            return None
        found, given, keywords = plain(function)
        node = None if found is None else self.sources.find(found)
        if found is None or node is None:
            return None
        scope = Scope(found, node)
        scope.bound = {**dict(zip(scope.parameters, given, strict=False)), **keywords}
        return scope

    def name_of(self, kind: type) -> str:
        """Return the name of a class's events."""
        try:
            return self.types.name_of(kind)
        except EventTypeError:  # another class has it; the graph need not refuse that
            return kind.__name__

    def typed(self, thing: Any) -> str | None:
        """Return the name of a class's events if the thing is such a class."""
        return self.name_of(thing) if isinstance(thing, type) and is_typed(thing) else None


class _Reading:
    """One handler's code, followed into the functions that it calls."""

    def __init__(self, reader: Reader, handler: Handler) -> None:
        self._reader = reader
        self._handler = handler
        self._found: list[Mention] = []
        self._followed: set[tuple[int, str | None]] = set()
        self._under_way: list[object] = []
        self._known: dict[object, Names] = {}

    def read(self, scope: Scope) -> list[Mention]:
        self._read_calls(scope)
        for name in _in_order(self._results(scope)):
            self._found.append(Mention(EMITS, name))
        return self._found

    def _results(self, scope: Scope) -> Names:
        """Return the events that a function yields or returns, looked at once."""
        given = sorted((name, id(value)) for name, value in scope.bound.items())
        key = (id(scope.node), scope.event, scope.context, *given)
        if key not in self._known:
            self._known[key] = set()
            self._known[key] = self._look_into(scope)
        return self._known[key]

    def _look_into(self, scope: Scope) -> Names:
        names: Names = set()
        for value in self._sinks(scope):
            names |= self._events(value, scope)
        if None in names:
            # What the code does not tell, its annotation may.
            said = self._annotated(scope, getattr(scope.node, "returns", None))
            if said and None not in said:
                names = (names | said) - {None}
        return names

    def _sinks(self, scope: Scope) -> list[ast.expr | None]:
        if isinstance(scope.node, ast.Lambda):
            values: list[ast.expr | None] = [scope.node.body]
        elif scope.is_generator:
            nodes = own(scope.node)
            values = [each.value for each in nodes if isinstance(each, (ast.Yield, ast.YieldFrom))]
        else:
            values = [each.value for each in own(scope.node) if isinstance(each, ast.Return)]
        if self._handler.second == "state" and not self._under_way and not scope.is_generator:
            # A reducer: (state, events), or the state alone.
            pairs = [value for value in values if isinstance(value, ast.Tuple)]
            return [pair.elts[1] for pair in pairs if len(pair.elts) > 1]
        return values

    # --- what an expression may be ----------------------------------------------------

    def _events(self, node: ast.expr | None, scope: Scope) -> Names:
        """Return the names of the events that an expression may be, or be made of."""
        key = (id(scope.node), ast.dump(node) if isinstance(node, ast.Name) else id(node))
        if node is None or key in self._under_way:
            return set()
        if len(self._under_way) > _DEEPEST * 4:
            return {None}
        self._under_way.append(key)
        try:
            return self._look(node, scope)
        finally:
            self._under_way.pop()

    def _look(self, node: ast.expr, scope: Scope) -> Names:
        parts = parts_of(node)
        if parts is not None:
            names: Names = set()
            for part in parts:
                names |= self._events(part, scope)
            return names
        if isinstance(node, ast.Call):
            return self._called(node, scope)
        if isinstance(node, ast.Name):
            return self._named(node.id, scope)
        return self._of_value(scope.resolve(node))

    def _named(self, name: str, scope: Scope) -> Names:
        if name == scope.event:
            return self._own_event()
        if name in scope.assigned:
            names: Names = set()
            for value in scope.assigned[name]:
                names |= {None} if value is None else self._events(value, scope)
            return names
        arguments = scope.node.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if each.arg == name and name not in scope.bound:
                return self._annotated(scope, each.annotation) or {None}
        if scope.outer is not None and name not in scope.bound:
            return self._named(name, scope.outer)
        return self._of_value(scope.resolve(ast.Name(name, ast.Load())))

    def _own_event(self) -> Names:
        key = self._handler.key
        if isinstance(key, str):
            return {None if key == EVERYTHING else key}
        return {self._reader.name_of(key)}

    def _of_value(self, value: Any) -> Names:
        """Return the names of the events that an object is, or has in it."""
        if value is None:
            return set()
        if isinstance(value, WorkflowEvent):
            return {value.name}
        if isinstance(value, (list, tuple)):
            names: Names = set()
            for item in cast("Sequence[Any]", value)[:_LONGEST]:
                names |= self._of_value(item)
            return names
        return {self._reader.typed(cast("Any", type(value)))}

    def _called(self, node: ast.Call, scope: Scope) -> Names:
        """Return the events that a call may return."""
        if _is_context_call(node, scope):
            return self._from_context(node, scope)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _OF_ANOTHER:
            return self._events(node.func.value, scope)
        function = scope.resolve(node.func)
        if any(function is each for each in _SAME) and node.args:
            return self._events(node.args[0], scope)
        if isinstance(function, type):
            return self._made(function, node, scope)
        owner = function.__self__ if isinstance(function, MethodType) else None
        if isinstance(owner, type) and (names := self._from_class(owner, function)):
            return names
        inner = self._callee(node, scope, function)
        return {None} if inner is None else self._results(inner)

    def _from_class(self, owner: type, method: Any) -> Names:
        """Return the event that a class method makes, such as ``Paid.model_validate``."""
        if issubclass(owner, WorkflowEvent):
            is_progress = method.__name__ == WorkflowEvent.progress.__name__
            return {PROGRESS if is_progress else None}
        name = self._reader.typed(owner)
        return set() if name is None else {name}

    def _made(self, kind: type, node: ast.Call, scope: Scope) -> Names:
        """Return the event that calling a class makes."""
        if not issubclass(kind, WorkflowEvent):
            return {self._reader.typed(kind)}
        given = {each.arg: each.value for each in node.keywords}
        return self._texts(node.args[0] if node.args else given.get("name"), scope)

    def _texts(self, node: ast.expr | None, scope: Scope) -> Names:
        """Return the texts that an expression may be, or be made of."""
        key = ("text", id(scope.node), id(node))
        if node is None or key in self._under_way:
            return {None}
        values = scope.assigned.get(node.id, []) if isinstance(node, ast.Name) else []
        parts = parts_of(node) or ([] if len(values) == 1 and values[0] is None else values)
        if not parts or isinstance(node, ast.BinOp):
            return _texts_of(scope.resolve(node))
        self._under_way.append(key)
        names: Names = set()
        for part in parts:
            names |= self._texts(part, scope)
        self._under_way.pop()
        return names

    def _from_context(self, node: ast.Call, scope: Scope) -> Names:
        method = cast("ast.Attribute", node.func).attr
        if method == "wait_for" and node.args:
            return {self._outcome(node.args[0], scope).event}
        if method == "step" and len(node.args) > 1:
            inner = self._reader.scope_of(scope.resolve(node.args[1]))
            if inner is not None:
                return self._annotated(inner, getattr(inner.node, "returns", None)) or {None}
        return {None}

    def _annotated(self, scope: Scope, annotation: ast.expr | None) -> Names:
        """Return the events of the classes that an annotation names."""
        names: Names = set()
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError):
                return {None}
        for each in () if annotation is None else ast.walk(annotation):
            if not isinstance(each, (ast.Name, ast.Attribute)):
                continue
            kind = scope.resolve(each)
            if (name := self._reader.typed(kind)) is not None:
                names.add(name)
            elif isinstance(kind, type) and issubclass(kind, WorkflowEvent):
                names.add(None)
        return names

    # --- what it asks of its context ------------------------------------------------------

    def _read_calls(self, scope: Scope) -> None:
        """Take in what is said to the context, here and in the functions that it is given to."""
        key = (id(scope.node), scope.context)
        if scope.context is None or key in self._followed:
            return
        self._followed.add(key)
        known: set[ast.AST] = set()
        for node in ast.walk(scope.node):
            if isinstance(node, ast.Attribute):
                known.add(node.value)  # a call of it is read below
            elif isinstance(node, (ast.Subscript, ast.Compare, ast.Delete)):
                known.update(ast.iter_child_nodes(node))
            elif isinstance(node, ast.Call):
                known.update(self._read_call(node, scope))
        for node in ast.walk(scope.node):
            if _is_context(node, scope) and node not in known:
                self._found.append(Mention(EMITS, None))  # it goes where no one can follow

    def _read_call(self, node: ast.Call, scope: Scope) -> Iterable[ast.AST]:
        """Take in one call; return those of its arguments whose use is known by that."""
        if _is_context_call(node, scope):
            self._take(cast("ast.Attribute", node.func).attr, node, scope)
            return ()
        given = [*node.args, *(each.value for each in node.keywords)]
        handed = [each for each in given if _is_context(each, scope)]
        if not handed:
            return ()
        function = scope.resolve(node.func)
        if any(function is each for each in _LOOKS):
            return handed
        inner = self._callee(node, scope, function)
        if inner is None or inner.context is None:
            return ()
        self._read_calls(inner)
        return handed

    def _callee(self, node: ast.Call, scope: Scope, function: Any) -> Scope | None:
        """Return the function that is called, which knows its context if it is given it."""
        if isinstance(function, (FunctionType, MethodType)):
            inner = self._reader.scope_of(function)
        elif isinstance(node.func, ast.Name):
            inner = scope.nested(node.func.id)
        else:
            inner = None
        if inner is None:
            return None
        free = [name for name in inner.parameters if name not in inner.bound]
        given: list[tuple[str | None, ast.expr]] = list(zip(free, node.args, strict=False))
        given += [(each.arg, each.value) for each in node.keywords]
        for name, value in given:
            if _is_context(value, scope):
                inner.context = name
            elif isinstance(value, ast.Name) and value.id == scope.event:
                inner.event = name
            elif name is not None and (known := scope.resolve(value)) is not UNKNOWN:
                inner.bound[name] = known
        return inner

    def _take(self, method: str, node: ast.Call, scope: Scope) -> None:
        first = node.args[0] if node.args else None
        if first is None and node.keywords:
            first = node.keywords[0].value
        if method in ("emit", "schedule"):
            how = EMITS if method == "emit" else SCHEDULES
            self._found += [Mention(how, name) for name in _in_order(self._events(first, scope))]
        elif method == "deadline":
            self._found.append(Mention(SCHEDULES, DEADLINE))
        elif method == "submit":
            task = scope.resolve(first)
            name = cast("Task[..., Any]", task).name if isinstance(task, Task) else None
            self._found.append(Mention(SUBMITS, None, name))
        elif method == "submit_external":
            name = scope.resolve(first)
            self._found.append(Mention(SUBMITS, None, name if isinstance(name, str) else None))
        elif method in ("wait_for", "postpone"):
            outcome = self._outcome(first, scope)
            if method == "wait_for" or outcome.event is not None:  # else until some time
                self._found.append(outcome)
        elif method == "collect":
            second = node.args[1] if len(node.args) > 1 else None
            parts: Sequence[ast.expr | None] = [second]
            if isinstance(second, (ast.List, ast.Tuple)):
                parts = second.elts
            self._found += [self._outcome(each, scope) for each in parts]

    def _outcome(self, node: ast.expr | None, scope: Scope) -> Mention:
        """Return what waiting for an expression waits for."""
        value = scope.resolve(node)
        if isinstance(node, ast.Attribute) and node.attr in ("completed", "failed"):
            task = scope.resolve(node.value)
            if isinstance(task, (Task, ExternalTask)):
                value = getattr(cast("ExternalTask", task), node.attr)
        if isinstance(value, Outcome):
            return Mention(WAITS, value.event, value.task)
        return Mention(WAITS, value if isinstance(value, str) else self._reader.typed(value))


def _texts_of(value: Any) -> Names:
    """Return a text, or those in a tuple or the like."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, (tuple, list, set, frozenset)) and value:
        items = cast("Sequence[Any]", [*value][:_LONGEST])
        return {each if isinstance(each, str) else None for each in items}
    return {None}


def _in_order(names: Names) -> list[str | None]:
    """Return names in the same order in every process, what is not known last."""
    return sorted(names, key=lambda name: (name is None, name or ""))


def _is_context(node: ast.AST, scope: Scope) -> bool:
    return isinstance(node, ast.Name) and node.id == scope.context


def _is_context_call(node: ast.Call, scope: Scope) -> bool:
    return isinstance(node.func, ast.Attribute) and _is_context(node.func.value, scope)
