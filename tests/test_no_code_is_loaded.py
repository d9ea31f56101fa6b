"""Nothing that comes from a stranger is unpickled, anywhere: the calls that could are looked for in all of the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for room in ("protocol", "producer", "trainer", "examples", "benchmarks")
    for path in ROOT.glob(f"{room}/**/*.py")
)
#: Methods and functions that run what they read, or may.
NEVER = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call as `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(source: str) -> list[str]:
    """What in a file would load a stranger's code."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"imports {module}" for module in modules if module.partition(".")[0] in NEVER]
    for name, call in calls(tree):
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        match name:
            case "torch.load" if given.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            case "np.load" | "numpy.load" if given.get("allow_pickle") != "False":
                found.append("np.load without allow_pickle=False")
            case "yaml.load" if list(map(ast.unparse, call.args[1:])) != ["yaml.BaseLoader"]:
                found.append("yaml.load with a loader that makes more than texts")
            case "yaml.unsafe_load" | "yaml.full_load" | "eval" | "exec":
                found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_loads_no_code(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill.source",
        "eval(text)",
    ],
)
def test_what_would_is_found(source: str) -> None:
    assert faults(source)
