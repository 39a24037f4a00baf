"""The dataset card: a README.md in a dataset's folder, with the front matter of Hugging Face."""

from __future__ import annotations

import json
import re
from typing import Any

from qss_offline.data.local import METADATA_FILE, data_folder, read_metadata
from qss_offline.data.statistics import Statistics, dataset_statistics
from qss_offline.errors import UserError, printable
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.reporting import Notice, print_notice

CARD_FILE = "README.md"
DEFAULT_LICENSE = "unknown"

CONVENTION = """\
## The observation-only convention

Minari has no way of its own to say that a dataset holds no actions. This one says it as follows:

- `action_space` is `Box(-inf, inf, (0,), float32)`, and the actions of an episode of T steps are
  an array of shape `(T, 0)`: no byte of an action is stored, and no infos either, as those of
  some environments give actions away.
- the metadata hold `"observation_only": true`.
- `recover_environment()` returns the environment with its real action space, where Gymnasium
  knows it by its id.

Stock Minari loads, iterates, samples, filters and splits it like any other dataset.
"""


def dataset_card(
    dataset_id: str,
    *,
    license: str | None = None,
    citation: str | None = None,
    notice: Notice = print_notice,
) -> str:
    """Return the card of a local dataset, in Markdown.

    Args:
        dataset_id: Minari id.
        license: SPDX identifier, such as "cc-by-4.0"; by default what the metadata say.
        citation: BibTeX or a sentence; by default the dataset itself, by id and digest.
        notice: called with a line about whatever is out of the ordinary.

    Raises:
        UserError: the dataset can't be loaded, or the licence isn't an identifier.
    """
    metadata = read_metadata(dataset_id)
    if license is None:
        recorded = metadata.get("license")
        license = recorded if isinstance(recorded, str) else DEFAULT_LICENSE
    if not re.fullmatch(r"[A-Za-z0-9.+-]{1,64}", license):
        raise UserError(f"license: expected an identifier such as cc-by-4.0, got {license!r}")
    statistics = dataset_statistics(dataset_id, notice=notice)
    return "\n".join(
        (
            _front_matter(dataset_id, metadata, license, statistics),
            _what(dataset_id, metadata, statistics),
            _how(metadata),
            _numbers(statistics),
            _loading(dataset_id, metadata),
            CONVENTION if metadata.get("observation_only") is True else "",
            _end(dataset_id, metadata, license, citation),
        )
    )


def write_card(
    dataset_id: str,
    *,
    license: str | None = None,
    citation: str | None = None,
    notice: Notice = print_notice,
) -> str:
    """Write the card into the dataset's folder, and return its path.

    Args:
        dataset_id: Minari id.
        license: SPDX identifier; it is kept in the metadata too.
        citation: BibTeX or a sentence.
        notice: called with a line about whatever is out of the ordinary.

    Raises:
        UserError: the dataset can't be loaded, or its folder can't be written to.
    """
    text = dataset_card(dataset_id, license=license, citation=citation, notice=notice)
    data = data_folder(dataset_id)
    if license is not None:
        metadata = read_metadata(dataset_id) | {"license": license}
        write_json(data / METADATA_FILE, metadata)
    path = data.parent / CARD_FILE
    write_bytes(path, text.encode())
    return str(path)


def _size_category(rows: int) -> str:
    for limit, name in (
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
        (10_000_000, "1M<n<10M"),
    ):
        if rows < limit:
            return name
    return "10M<n<100M"


def _plain(value: object) -> str:
    """Return untrusted text as one line that can't end a table or the front matter."""
    return printable(" ".join(str(value).split())).replace("|", "\\|").replace("<", "&lt;")


def _front_matter(
    dataset_id: str, metadata: dict[str, Any], license: str, statistics: Statistics
) -> str:
    tags = ["minari", "gymnasium", "offline-rl", "reinforcement-learning"]
    if metadata.get("observation_only") is True:
        tags += ["observation-only", "learning-from-observation"]
    # JSON strings are YAML strings: nothing in a name can break out of the front matter.
    lines = [
        "---",
        f"license: {license.lower()}",
        f"pretty_name: {json.dumps(dataset_id)}",
        "task_categories:",
        "- reinforcement-learning",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "size_categories:",
        f"- {_size_category(statistics.transitions)}",
        "---",
        "",
    ]
    return "\n".join(lines)


def _what(dataset_id: str, metadata: dict[str, Any], statistics: Statistics) -> str:
    text = _plain(metadata.get("description") or "A Minari dataset.")
    rows = {
        "environment": metadata.get("env_id") or "unknown",
        "transitions": f"{statistics.transitions:,}",
        "episodes": f"{statistics.episodes:,}",
        "actions": "none" if metadata.get("observation_only") is True else "yes",
        "format": metadata["data_format"],
        "twin": metadata.get("twin", "none"),
        "digest of the columns": metadata.get("digest", "none"),
    }
    table = "\n".join(f"| {name} | {_plain(value)} |" for name, value in rows.items())
    return f"# {dataset_id}\n\n{text}\n\n| | |\n|---|---|\n{table}\n"


def _how(metadata: dict[str, Any]) -> str:
    lines = [f"- who acted: {_plain(metadata.get('algorithm_name') or 'unknown')}"]
    probability = metadata.get("random_action_prob")
    if probability is not None:
        lines.append(
            f"- randomness: at each step, with probability {probability:g}, a uniformly random "
            "action"
        )
    if isinstance(metadata.get("seed"), int):
        lines.append(f"- seed: {metadata['seed']}")
    for key, name in (("spec", "settings"), ("made_from", "made from")):
        if isinstance(metadata.get(key), dict):
            lines.append(f"- {name}: `{_plain(json.dumps(metadata[key]))}`")
    if isinstance(metadata.get("observations_flattened"), dict):
        lines.append("- observations were flattened by `gymnasium.spaces.flatten`")
    versions = metadata.get("versions")
    if isinstance(versions, dict):
        named = ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in versions.items())
        lines.append(f"- versions: {named}")
    return "## How it was made\n\n" + "\n".join(lines) + "\n"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _numbers(statistics: Statistics) -> str:
    rows = (
        (
            "undiscounted return",
            f"{statistics.return_mean:.2f}",
            _between(statistics.return_interval),
            f"{statistics.return_min:.2f} to {statistics.return_max:.2f}",
        ),
        (
            "steps of an episode",
            f"{statistics.length_mean:.2f}",
            _between(statistics.length_interval),
            "",
        ),
    )
    stochasticity = ""
    if statistics.stochasticity is not None:
        share = f"{100 * statistics.stochasticity:.2g}%"
        stochasticity = (
            f" Behaviour stochasticity: {share} of the variance of steps isn't explained by the "
            "state they start from, because of random actions, the environment or the sensors."
        )
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        "## Numbers\n\nOver all episodes, those cut short by the end of a recording included.\n\n"
        "| | mean | 95% interval of the mean | range |\n|---|---|---|---|\n"
        f"{table}\n\n{100 * statistics.terminated:.1f}% of the episodes terminated; the others "
        f"were truncated.{stochasticity}\n"
    )


def _loading(dataset_id: str, metadata: dict[str, Any]) -> str:
    # Minari reads HDF5 only where Pillow is, but doesn't ask for it.
    extra = "hdf5" if metadata["data_format"] == "hdf5" else "arrow"
    return f"""\
## Loading

With stock Minari (`pip install "minari[{extra}]" pillow`):

```python
import minari

dataset = minari.load_dataset("{dataset_id}")
episode = dataset[0]
print(episode.observations.shape, episode.rewards.sum())
```

With QSS Offline, as columns, the digest being checked:

```python
from qss_offline.data import load_transitions

transitions = load_transitions("{dataset_id}").transitions
print(transitions.observations.shape, transitions.next_observations.shape)
```
"""


def _end(dataset_id: str, metadata: dict[str, Any], license: str, citation: str | None) -> str:
    authors = metadata.get("author")
    names = ", ".join(_plain(name) for name in authors) if isinstance(authors, list) else ""
    digest = _plain(metadata.get("digest", "unknown"))
    cited = citation or f"{names or 'Authors unknown'}. {dataset_id}, a Minari dataset, {digest}."
    return f"## Licence\n\n{license}\n\n## Citation\n\n```\n{cited}\n```\n"
