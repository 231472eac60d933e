"""Finding the source of functions, and what its names stand for, without running any of it."""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import inspect
import linecache
from dataclasses import dataclass, field
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES: Final = (*FUNCTIONS, ast.ClassDef)
_YIELDS: Final = (ast.Yield, ast.YieldFrom)
_LAMBDA: Final = "<lambda>"
_MOST_LAYERS: Final = 32


class Unknown(enum.Enum):
    """What stands for a value that only running the code would tell."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


class Sources:
    """Syntax trees of files, each of which is read once."""

    def __init__(self) -> None:
        self._trees: dict[str, dict[tuple[str, int], list[Function]]] = {}

    def find(self, function: FunctionType) -> Function | None:
        """Return the syntax of a function, None if there is no telling."""
        code = function.__code__
        if code.co_filename not in self._trees:
            self._trees[code.co_filename] = _functions(function)
        found = self._trees[code.co_filename].get((code.co_name, code.co_firstlineno), [])
        return found[0] if len(found) == 1 else None  # of two lambdas in a line it may be either


def _functions(function: FunctionType) -> dict[tuple[str, int], list[Function]]:
    text = "".join(linecache.getlines(function.__code__.co_filename, function.__globals__))
    found: dict[tuple[str, int], list[Function]] = {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            found.setdefault((_LAMBDA, node.lineno), []).append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = [node.lineno, *(each.lineno for each in node.decorator_list)]
            found.setdefault((node.name, min(lines)), []).append(node)
    return found


def plain(function: Callable[..., Any]) -> tuple[FunctionType | None, list[Any], dict[str, Any]]:
    """Return the function behind partials, methods and wrappers, and what is given to it already.

    Returns:
        the function, None if it has no Python code; arguments for its first parameters; and
        keywords.
    """
    given: list[Any] = []
    keywords: dict[str, Any] = {}
    called: Any = function
    for _ in range(_MOST_LAYERS):
        if isinstance(called, functools.partial):
            partial = cast("Any", called)
            given = [*partial.args, *given]
            keywords = {**partial.keywords, **keywords}
            called = partial.func
        elif isinstance(called, MethodType):
            given = [called.__self__, *given]
            called = called.__func__
        elif isinstance(called, FunctionType):
            inner = inspect.getattr_static(called, "__wrapped__", None)
            if inner is None:
                return called, given, keywords
            called = inner
        else:
            method = inspect.getattr_static(cast("Any", type(called)), "__call__", None)
            if not isinstance(method, FunctionType):
                break
            given = [called, *given]
            called = method
    return None, [], {}


def own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in a function's body, but not in functions and classes within it."""
    inner: Any = node.body if isinstance(node, ast.Lambda) else getattr(node, "body", ())
    body: list[ast.AST] = [inner] if isinstance(inner, ast.AST) else list(inner)
    while body:
        child = body.pop()
        yield child
        if not isinstance(child, _SCOPES):
            body.extend(ast.iter_child_nodes(child))


@dataclass(slots=True)
class Scope:
    """A function with its syntax, and what its parameters stand for.

    Attributes:
        bound: parameters whose value is known, such as ``self`` of a method.
        event: the parameter that is the handled event.
        context: the parameter that is the handler's context.
        outer: the function that this one is defined in, if that is known.
        is_generator: whether it yields.
        assigned: what its local names are set to; None for what has no expression.
    """

    function: Any
    node: Function
    bound: dict[str, Any] = field(default_factory=dict[str, Any])
    event: str | None = None
    context: str | None = None
    outer: Scope | None = None
    is_generator: bool = field(init=False)
    assigned: dict[str, list[ast.expr | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.is_generator = any(isinstance(each, _YIELDS) for each in own(self.node))
        self.assigned = _assigned(self.node)

    @property
    def parameters(self) -> list[str]:
        """Those that can be given by position."""
        arguments = self.node.args
        return [each.arg for each in (*arguments.posonlyargs, *arguments.args)]

    def nested(self, name: str) -> Scope | None:
        """Return the function of this name that is defined within this one, or around it."""
        for node in own(self.node):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                return Scope(
                    self.function, node, event=self.event, context=self.context, outer=self
                )
        return None if self.outer is None else self.outer.nested(name)

    def resolve(self, node: ast.AST | None) -> Any:
        """Return what an expression stands for, `UNKNOWN` if only running it would tell."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.Attribute):
            return _attribute(self.resolve(node.value), node.attr)
        return UNKNOWN

    def name(self, name: str) -> Any:
        """Return what a name stands for, `UNKNOWN` if only running the code would tell."""
        if name in self.bound:
            return self.bound[name]
        if name in self.assigned:
            return self._alias(name)
        if name in self.parameters:
            return UNKNOWN
        return self._outside(name) if self.outer is None else self.outer.name(name)

    def _alias(self, name: str) -> Any:
        """Return what a local name stands for that is set once, to another name."""
        first, *others = self.assigned[name]
        if others or not isinstance(first, (ast.Constant, ast.Name, ast.Attribute)):
            return UNKNOWN
        return UNKNOWN if _mentions(first, name) else self.resolve(first)

    def _outside(self, name: str) -> Any:
        """Return what a name stands for that is not the function's own."""
        code = self.function.__code__
        if name in code.co_freevars:
            cell = self.function.__closure__[code.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:  # it is not set yet
                return UNKNOWN
        if name in code.co_varnames or name in code.co_cellvars:
            return UNKNOWN
        return self.function.__globals__.get(name, vars(builtins).get(name, UNKNOWN))


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(node))


def _attribute(holder: Any, name: str) -> Any:
    """Return an attribute without running a property."""
    if holder is UNKNOWN:
        return UNKNOWN
    if isinstance(holder, enum.Enum) and name in ("value", "name"):
        return holder.value if name == "value" else holder.name
    return _unbound(inspect.getattr_static(holder, name, UNKNOWN), holder, name)


def _unbound(found: Any, holder: Any, name: str) -> Any:
    """Return what an attribute, as it lies in a class or an object, is for whoever asks for it."""
    match found:
        case staticmethod():
            return cast("Any", found).__func__
        case classmethod():
            method = cast("Any", found).__func__
            return MethodType(method, holder if isinstance(holder, type) else type(holder))
        case FunctionType():
            is_method = not isinstance(holder, (type, ModuleType)) and name not in getattr(
                holder, "__dict__", {}
            )
            return MethodType(found, holder) if is_method else found
        case MemberDescriptorType() if not isinstance(holder, type):
            try:
                return found.__get__(holder)  # a slot runs no code
            except AttributeError:
                return UNKNOWN
        case _:
            return UNKNOWN if _is_code(found) else found


def _is_code(attribute: Any) -> bool:
    """Tell whether asking for an attribute runs something."""
    lazy: Any = functools.cached_property
    return isinstance(attribute, lazy) or inspect.isdatadescriptor(attribute)


def _assigned(node: Function) -> dict[str, list[ast.expr | None]]:
    """Return what the local names of a function are set to; None for what has no expression."""
    found: dict[str, list[ast.expr | None]] = {}
    for each in own(node):
        for target, value in _targets(each):
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    # Of a tuple that is taken apart any part may be what is meant.
                    found.setdefault(name.id, []).append(value)
    return found


def _targets(node: ast.AST) -> Iterator[tuple[ast.AST, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
        yield node.target, node.value
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, None
    else:
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id=name), attr="append" | "extend" | "insert" | "add"
                ),
                args=[*_, value],
            ):
                yield ast.Name(name, ast.Store()), value
            case _:
                pass


def parts_of(node: ast.expr) -> list[ast.expr] | None:
    """Return the expressions of which this one gives one or all; None if it is no such thing."""
    found: list[ast.expr] | None = None
    match node:
        case ast.List() | ast.Tuple() | ast.Set():
            found = node.elts
        case ast.IfExp():
            found = [node.body, node.orelse]
        case ast.BoolOp():
            found = node.values
        case ast.BinOp(op=ast.Add()):
            found = [node.left, node.right]
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            found = [node.elt]
        case ast.Await() | ast.Starred() | ast.NamedExpr():
            found = [node.value]
        case _:
            pass
    return found
