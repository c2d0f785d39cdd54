"""What may be changed in a function: the mutants of ``tests.mutants``."""

import ast
import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

_PAIRS: tuple[tuple[type[ast.AST], type[ast.AST]], ...] = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.Div),
    (ast.BitAnd, ast.BitOr),
)
_SWAPPED = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_SWAPPED_NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
_TEXT_METHODS = {"strip", "upper", "lower", "removesuffix", "removeprefix", "replace"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A function with one expression changed.

    ``room``: its module below ``sidecar``; ``function``: its name there, with that of its class;
    ``text``: the change; ``code``: the changed function.
    """

    room: str
    function: str
    text: str
    module: ModuleType
    code: CodeType

    @property
    def name(self) -> str:
        """The function's whole name, as in the table of survivors."""
        return f"{self.room}.{self.function}"

    @property
    def tests(self) -> str:
        """The folder of the tests that must notice it."""
        return f"tests/{self.room.partition('.')[0]}/"

    def original(self) -> FunctionType:
        """Return the function as it runs, below what decorates it."""
        found: object = self.module
        for part in self.function.split("."):
            found = vars(found)[part]
        if isinstance(found, property):
            found = found.fget
        if isinstance(found, classmethod | staticmethod):
            found = found.__func__
        while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
            found = found.__wrapped__  # type: ignore[attr-defined]
        return found


def changes(node: ast.AST, names: Mapping[str, object]) -> Iterator[ast.AST]:  # noqa: C901
    """Yield what may stand in the place of ``node``; ``names``: the module's."""
    match node:
        case ast.Compare(ops=[operator], comparators=[right]):
            yield ast.Compare(node.left, [_SWAPPED[type(operator)]()], [right])  # type: ignore[list-item]
            if isinstance(right, ast.Tuple | ast.Set):
                for rest in _without_one(right.elts):
                    yield ast.Compare(node.left, node.ops, [ast.Tuple(rest, ast.Load())])
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                swapped = [*node.ops[:at], _SWAPPED[type(operator)](), *node.ops[at + 1 :]]
                yield ast.Compare(node.left, swapped, node.comparators)  # type: ignore[arg-type]
        case ast.BoolOp():
            yield ast.BoolOp(_SWAPPED[type(node.op)](), node.values)  # type: ignore[arg-type]
            for rest in _without_one(node.values):
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _SWAPPED:
            swapped_operator = _SWAPPED[type(node.op)]()
            yield ast.BinOp(node.left, swapped_operator, node.right)  # type: ignore[arg-type]
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.If() | ast.While():
            if not isinstance(node, ast.While):
                yield type(node)(ast.Constant(True), node.body, node.orelse)
            yield type(node)(ast.Constant(False), node.body, node.orelse)
        case ast.comprehension() if node.ifs:
            for rest in _without_one(node.ifs):
                yield ast.comprehension(node.target, node.iter, rest, node.is_async)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int(number) | float(number)):
            yield ast.Constant(number + 1)
        case ast.Constant(value=str(text)):
            yield ast.Constant("XX" + text)
        case ast.Constant(value=bytes(data)):
            yield ast.Constant(b"XX" + data)
        case ast.Return() if node.value is not None and not _is_none(node.value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
            yield ast.Pass()
        case ast.Name(id=name) if name in _SWAPPED_NAMES:
            yield ast.Name(_SWAPPED_NAMES[name], node.ctx)
        case ast.Call(func=ast.Attribute(attr=method, value=receiver)) if method in _TEXT_METHODS:
            yield receiver
        case ast.Attribute(value=ast.Name(id=name), attr=member):
            members = names.get(name)
            if isinstance(members, type) and issubclass(members, Enum):
                others = [one for one in members.__members__ if one != member]
                if member in members.__members__ and others:
                    yield ast.Attribute(node.value, others[0], node.ctx)


def _without_one(parts: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for at in range(len(parts)):
        yield [*parts[:at], *parts[at + 1 :]]


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _first_line(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text.partition("\n")[0] if isinstance(node, ast.stmt) else text


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Yield each mutant of each function and method of ``module``."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    room = module.__name__.removeprefix("sidecar.")
    for name, function in _functions(tree):
        seen: Counter[str] = Counter()
        for parent, field, at, node in _places(function):
            for changed in changes(node, vars(module)):
                text = f"{_first_line(node)} -> {_first_line(changed)}"
                seen[text] += 1
                if seen[text] > 1:
                    text = f"{text} ({seen[text]})"
                ast.copy_location(changed, node)
                _put(parent, field, at, changed)
                try:
                    mutated = ast.fix_missing_locations(copy.deepcopy(tree))
                    code = _find_code(compile(mutated, module.__file__, "exec"), name)
                finally:
                    _put(parent, field, at, node)
                yield Mutant(room, name, text, module, code)


def noting_entries(module: ModuleType) -> Iterator[Mutant]:
    """Yield each function and method of ``module`` with a first statement that notes its entry.

    It calls ``note_entry`` of ``builtins`` with the function's whole name.
    """
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    room = module.__name__.removeprefix("sidecar.")
    for name, function in _functions(tree):
        called = ast.parse(f"note_entry({f'{room}.{name}'!r})").body
        function.body[:0] = map(ast.fix_missing_locations, called)
    compiled = compile(tree, module.__file__, "exec")
    for name, _ in _functions(tree):
        yield Mutant(room, name, "", module, _find_code(compiled, name))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{method.name}", method


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield each node in the body below ``node`` with its place: parent, field, and index.

    Annotations, defaults, decorators and docstrings are left out.
    """
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    for field, value in ast.iter_fields(node):
        if field in ("args", "returns", "annotation", "decorator_list") and not isinstance(
            node, ast.Call
        ):
            continue
        for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, at, child
                yield from _places(child)


def _put(parent: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[at] = node


def _find_code(code: CodeType, qualname: str) -> CodeType:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == qualname:
                return constant
            if qualname.startswith(f"{constant.co_qualname}."):
                return _find_code(constant, qualname)
    raise LookupError(qualname)
