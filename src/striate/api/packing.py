"""A dataset as tar shards: looked over, split, written, and gone on with where it was interrupted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from striate.api.stopping import resumable
from striate.data.check import check
from striate.data.dataset import PARTS, Dataset, Finding, Part
from striate.data.manifest import (
    MANIFEST,
    PACKING,
    Manifest,
    PackConfig,
    Packing,
    read_json,
    write_json,
)
from striate.data.open import DataConfig, open_dataset
from striate.data.pack import identity_of_all, write_shards
from striate.data.split import complete
from striate.errors import DataError, UsageError
from striate.files import remove_leftovers, write_error
from striate.training.lock import locked

__all__ = ["Packed", "Progress", "pack_data"]

Progress = Callable[[str, int, int], None]
"""Called with "checking" or "packing", how many pictures are done and how many there are."""

_WAY_ON = "run the same command again: it goes on where it was stopped"


@dataclass(frozen=True, slots=True, repr=False)
class Packed:
    """Shards that were written."""

    folder: Path
    manifest: Manifest
    kept: int  # shards that were there already
    notes: tuple[str, ...]  # how parts were made
    left_out: tuple[Finding, ...]  # why pictures of the source are not among them

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {count:,}" for part, count in self.manifest.pictures.items())
        return f"Packed({self.folder}: {parts}, {len(self.manifest.shards)} shards)"

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shard in self.manifest.shards)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `datasets pack --json`."""
        return {
            "folder": str(self.folder),
            "pictures": dict(self.manifest.pictures),
            "classes": list(self.manifest.classes),
            "shards": [shard.name for shard in self.manifest.shards],
            "bytes": self.bytes,
            "kept": self.kept,
            "notes": list(self.notes),
            "left_out": [finding.to_dict() for finding in self.left_out],
        }


def pack_data(data: DataConfig, folder: Path, config: PackConfig, progress: Progress | None = None) -> Packed:
    """Write the pictures of `data` that can be trained on as tar shards in `folder`.

    Parts that the data lacks are made as `train` makes them. Called again after an interruption it keeps
    the shards that are whole, and the folder ends with the bytes of an undisturbed call. Raises UsageError
    for a folder with anything else in it, Interrupted after a signal, DiskFull where there is no room.
    """
    dataset = open_dataset(data)
    if dataset.task != "classification":
        raise UsageError(data.source, f"its task is {dataset.task}", "give pictures with a class each")
    _make(folder)
    with locked(folder), resumable(folder, lambda: _WAY_ON):
        remove_leftovers(folder)
        plan, dataset = _plan(dataset, folder, config, progress)
        write_json(folder / PACKING, plan)
        shards, kept = write_shards(dataset, folder, config, _named(progress, "packing"))
        counts = Counter(item.part for item in dataset.items)
        manifest = Manifest(
            source=Path(data.source).name or data.source,
            fingerprint=plan.fingerprint,
            config=config,
            classes=dataset.classes,
            pictures={part: counts[part] for part in PARTS if counts[part]},
            shards=shards,
        )
        write_json(folder / MANIFEST, manifest, indent=1)
        (folder / PACKING).unlink()
    return Packed(folder, manifest, kept, plan.notes, plan.left_out)


def _plan(
    dataset: Dataset, folder: Path, config: PackConfig, progress: Progress | None
) -> tuple[Packing, Dataset]:
    """What to pack, and its pictures with their parts."""
    begun = _begun(folder)
    if begun is not None and begun.config != config:
        raise _other(folder, "packed with other options", "give the same options")
    identity = identity_of_all(dataset)
    if isinstance(begun, Packing) and begun.identity == identity:
        return begun, _with_parts(dataset, begun.parts)
    report = check(dataset, near_duplicates=False, progress=_named(progress, "checking"))
    usable = report.usable
    split = complete(dataset.only(usable), config.split, report.groups[usable])
    if not len(split) or any(item.label is None for item in split.items):
        raise DataError(dataset.name, "no picture with a class is left to pack", "see striate check")
    plan = Packing(
        identity=identity,
        fingerprint=report.facts.fingerprint,
        config=config,
        parts={item.key: item.part for item in split.items},
        notes=split.notes,
        left_out=report.errors,
    )
    if begun is not None and not _is_same(begun, plan):
        raise _other(folder, "made from other pictures", "put the pictures back")
    return plan, split


def _is_same(begun: Manifest | Packing, plan: Packing) -> bool:
    """Whether `begun` holds the pictures of `plan`, in the same parts as far as it says."""
    if isinstance(begun, Packing):
        return (begun.fingerprint, begun.parts) == (plan.fingerprint, plan.parts)
    return (begun.fingerprint, Counter(begun.pictures)) == (plan.fingerprint, Counter(plan.parts.values()))


def _begun(folder: Path) -> Manifest | Packing | None:
    """What was packed there, or begun to be. Raises UsageError for a folder with anything else in it."""
    if (folder / PACKING).is_file():
        return read_json(folder / PACKING, Packing, f"--out {folder / PACKING}")
    if (folder / MANIFEST).is_file():
        return read_json(folder / MANIFEST, Manifest, f"--out {folder / MANIFEST}")
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"--out {folder}", "there are other files in that folder", "choose a new folder")
    return None


def _other(folder: Path, how: str, fix: str) -> UsageError:
    return UsageError(
        f"--out {folder}",
        f"the shards in that folder were {how}",
        f"{fix}, choose another folder, or delete it",
    )


def _with_parts(dataset: Dataset, parts: dict[str, Part]) -> Dataset:
    """The pictures of `dataset` that have one of `parts`, which is theirs now."""
    items = (replace(item, part=parts[item.key]) for item in dataset.items if item.key in parts)
    return replace(dataset, items=tuple(items))


def _named(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None
