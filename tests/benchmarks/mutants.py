"""How well the tests pin the derivative code down: planted changes, and how many of them make a test fail.

    python tests/benchmarks/mutants.py --count 320 --jobs 2 > mutants.txt

cosmic-ray (extra `dev`) supplies the changes of arithmetic, signs, numbers and comparisons; deleted transpositions are
added here. A seeded sample of each module's mutants is applied, one at a time, to a copy of the checkout, and the tests
of that module run against it, then all tests of the derivative code if those all pass. Prints a line for each mutant
that survives, and a table. `--list` prints the mutants without running them.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[2]
OPERATORS = [
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in (
        "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mul_Add", "Pow_Mul", "FloorDiv_Mul")),
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in (
        "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Eq_NotEq", "NotEq_Eq")),
    "core/ReplaceUnaryOperator_USub_UAdd", "core/ReplaceUnaryOperator_Delete_Not", "core/NumberReplacer",
]  # fmt: skip
# The tests that know a module best come first; a mutant that passes them meets the tests of all.
MODULES = {
    "activations": ["activations", "mlp"],
    "mlp": ["mlp", "fields"],
    "fields": ["fields", "check_field"],
    "running_cost": ["running_cost", "losses", "divergence"],
    "losses": ["losses"],
    "steppers": ["steppers", "solve", "sensitivities"],
    "integrate": ["integrate", "solve"],
    "solve": ["integrate", "solve"],
    "adjoint": ["sensitivities", "adjoint"],
    "sensitivities/sweep": ["sensitivities", "gradient_error"],
    "sensitivities/backsolve": ["sensitivities", "adjoint"],
    "sensitivities/checkpointed": ["sensitivities", "adjoint"],
    "sensitivities/interpolating": ["sensitivities", "gradient_error"],
    "sensitivities/quadrature": ["sensitivities", "gradient_error"],
    "sensitivities/witness": ["gradient_error"],
    "sensitivities/error": ["gradient_error"],
    "sensitivities/discrete": ["sensitivities", "adjoint"],
    "sensitivities/forward": ["sensitivities", "adjoint"],
    "sensitivities/taped": ["taped", "march"],
    "march": ["march", "taped"],
    "tape": ["tape", "taped"],
    "mlp_tape": ["tape", "taped"],
    "density_tape": ["tape", "taped"],
    "differentiable": ["march", "taped", "losses"],
    "divergence": ["divergence"],
    "mlp_divergence": ["divergence"],
    "log_density": ["log_density", "flows"],
    "flows": ["flows", "files"],
    "planar": ["planar"],
    "as_printed": ["as_printed"],
}
LIMIT_S = 600  # a mutant that makes the tests run longer than this is caught by the clock


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    occurrence: int
    code: str
    line: int
    change: str


def mutants_of(module: str) -> list[Mutant]:
    """Every change that the operators know how to make in a module, docstrings and annotations apart."""
    path = ROOT / "refode" / f"{module}.py"
    source = path.read_text()
    found = []
    for operator in OPERATORS:
        for occurrence in range(10_000):
            code = mutate_code(source.encode(), _built(operator), occurrence)
            if code is None:
                break
            found.append(_described(module, operator, occurrence, source, code))
    for occurrence, match in enumerate(re.finditer(r"(?<=[\w\])])\.T\b", source)):
        code = source[: match.start()] + source[match.end() :]
        found.append(_described(module, "delete .T", occurrence, source, code))
    return [m for m in found if "Literal[" not in m.change and "->" not in m.change and "TypeAlias" not in m.change]


def _built(operator: str):
    return get_operator(operator)()


def _described(module: str, operator: str, occurrence: int, source: str, code: str) -> Mutant:
    for number, (old, new) in enumerate(zip(source.splitlines(), code.splitlines(), strict=False), start=1):
        if old != new:
            change = f"{old.split('  #')[0].strip()}  =>  {new.split('  #')[0].strip()}"
            return Mutant(module, operator, occurrence, code, number, change)
    raise ValueError(f"{operator} #{occurrence} changes nothing in {module}")


def killed(mutant: Mutant, tree: Path) -> str:
    """The test that fails, "the clock", or "" if none does."""
    path = tree / "refode" / f"{mutant.module}.py"
    original = path.read_text()
    path.write_text(mutant.code)
    try:
        best = MODULES[mutant.module]
        rest = [name for name in _all_tests() if name not in best]
        for names in (best, rest):
            verdict = _run(tree, [f"tests/test_{name}.py" for name in names])
            if verdict:
                return verdict
        return ""
    finally:
        path.write_text(original)


def _all_tests() -> list[str]:
    return sorted({name for names in MODULES.values() for name in names})


def _run(tree: Path, files: list[str]) -> str:
    environment = os.environ | {"REFODE_PROFILE": "mutation", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "the clock"
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"exit {done.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=320, help="how many mutants, shared among the modules by size")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES), metavar="MODULE")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    arguments = parser.parse_args()
    everything = {module: mutants_of(module) for module in arguments.modules}
    total = sum(map(len, everything.values()))
    chosen = []
    for module, mutants in everything.items():
        share = min(len(mutants), max(4, round(arguments.count * len(mutants) / total)))
        chosen += random.Random(f"{arguments.seed} {module}").sample(mutants, share)
    print(f"{len(chosen)} of {total} mutants, seed {arguments.seed}", flush=True)
    if arguments.list:
        for mutant in chosen:
            print(f"refode/{mutant.module}.py:{mutant.line}  {mutant.change}")
        return
    _report(chosen, arguments.jobs)


def _report(chosen: list[Mutant], jobs: int) -> None:
    start, verdicts = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        trees: Queue[Path] = Queue()
        for job in range(jobs):
            tree = Path(folder) / str(job)
            ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis", ".*_cache")
            shutil.copytree(ROOT, tree, ignore=ignore)
            trees.put(tree)

        broken = _run(tree, [f"tests/test_{name}.py" for name in _all_tests()])
        if broken:
            raise SystemExit(f"the tests must pass before a mutant can fail them: {broken}")

        def judge(mutant: Mutant) -> tuple[Mutant, str]:
            tree = trees.get()
            try:
                return mutant, killed(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            for done, (mutant, verdict) in enumerate(pool.map(judge, chosen), start=1):
                verdicts[mutant] = verdict
                if not verdict:
                    print(f"survives  refode/{mutant.module}.py:{mutant.line}  {mutant.change}", flush=True)
                if done % 10 == 0:
                    print(f"{done} of {len(chosen)}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{'module':26} mutants  killed")
    for module in dict.fromkeys(m.module for m in chosen):
        mine = [bool(v) for m, v in verdicts.items() if m.module == module]
        print(f"{module:26} {len(mine):7d} {sum(mine):7d}")
    dead = sum(map(bool, verdicts.values()))
    print(f"{'all':26} {len(verdicts):7d} {dead:7d}   {100 * dead / len(verdicts):.1f} %")


if __name__ == "__main__":
    main()
