"""Small runs of everything, as digests: a rebuild may change no bit of them.

    python -m tests.golden record FILE     # before
    python -m tests.golden check FILE      # after; prints what differs, and ends with 1 if anything

Digests are of one machine and one set of packages: they hold a change of the code, nothing else.
All goes through the commands, so that modules may move.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BUDGET = "--transitions 1000 --online-steps 60 --online-rounds 5 --episodes 2"
FEW = "--updates 60 --set updates_per_round=20"
RUNS = {
    **{
        f"{name}": f"random_obs --env {env} {options} {FEW} {BUDGET} --seeds 2"
        for name, env, options in (
            ("d3g", "InvertedPendulum", "--method d3g"),
            ("paper", "Reacher", "--preset paper"),
            ("auto", "Hopper", ""),
        )
    },
    "bco": f"random_obs --env Reacher --method bco --updates 40 {BUDGET}",
    "online": "train-online InvertedPendulum --seeds 2 --steps 300 --warm-up 100 "
    "--evaluate-every 100 --episodes 2 --set model_updates=20",
    "comparison": "reproduce table1 --families reacher --levels 100 --methods d3g,bco --seeds 1 "
    "--updates 60 --transitions 1000 --workers 1",
    "tabular": "reproduce tabular stochastic --seeds 2 --steps 200",
}


def returns(result: dict[str, Any]) -> list[list[float]]:
    """The returns of a seed's evaluations, however its file is laid out."""
    evaluations = result["evaluations"]
    return [one["returns"] if isinstance(one, dict) else one[-1] for one in evaluations]


def digest(path: Path) -> str:
    """Digest of a file; of a seed's results, of its returns alone."""
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(returns(json.loads(content))).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def kept(path: Path) -> bool:
    """Whether a file says what was learned."""
    return path.name in {"result.json", "metrics.jsonl"} or path.suffix == ".safetensors"


def main(task: str, file: Path) -> int:
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = os.environ | {
            "MINARI_DATASETS_PATH": str(folder / "minari"), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        (folder / "minari").mkdir()
        for run, arguments in RUNS.items():
            flag = "--runs" if "table1" in arguments else "--out"
            module = (
                "recipes.random_obs" if "random_obs" in arguments else "qss_offline.cli.program"
            )
            words = arguments.removeprefix("random_obs ").split()
            command = [sys.executable, "-m", module, *words, flag, f"runs/{run}"]
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                print(f"{run}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return 1
            print(run, flush=True)
        for path in sorted((folder / "runs").rglob("*")):
            if path.is_file() and kept(path):
                found[str(path.relative_to(folder))] = digest(path)
        for path in sorted((folder / "minari").rglob("*")):
            if path.suffix in {".hdf5", ".arrow"}:
                found[str(path.relative_to(folder))] = digest(path)
    if task == "record":
        file.write_text(json.dumps(found, indent=2) + "\n")
        print(f"recorded {len(found)} digests in {file}")
        return 0
    before = json.loads(file.read_text())
    differ = sorted(k for k in before.keys() | found.keys() if before.get(k) != found.get(k))
    for key in differ:
        print(f"differs: {key}: {before.get(key)} before, {found.get(key)} now")
    print(f"{len(differ)} of {len(before)} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
