"""Going on with a run that was stopped: exactly, or with what is not as it was said."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from striate.api.runfiles import CONFIG_FILE, METRICS_FILE, read_split
from striate.api.settings import WITHOUT_EFFECT, RunConfig, recorded_settings
from striate.api.training import (
    Progress,
    Resumption,
    TrainingPlan,
    begin,
    circumstances_of,
    make_network,
    planned,
    refuse_unlike,
    resume_command,
)
from striate.data.check import CheckReport, check
from striate.data.dataset import Dataset, Part
from striate.data.open import open_dataset
from striate.errors import UsageError

__all__ = ["prepare_resumption", "refuse_beside"]

_NAMED = 3  # pictures
_SETTINGS = "settings."  # what the names of settings begin with among the circumstances


def prepare_resumption(
    folder: Path, inexact: bool, progress: Progress | None = None, made_by: str | None = None
) -> TrainingPlan:
    """The plan of the rest of the run in `folder`: its settings, its parts, its newest intact checkpoint.

    Raises UsageError for a folder without a run, a finished run, and, unless `inexact`, where the result
    would not have the bits of an undisturbed run; then it lists what differs. `made_by` names the function,
    if any, that makes the network; raises ModelError where it is needed, for no file may say it.
    """
    from striate.training.checkpoints import find_newest
    from striate.training.processes import join

    join()
    _refuse_unless_unfinished(folder)
    found = find_newest(folder)
    resolved = recorded_settings(folder / CONFIG_FILE)
    _refuse_other_maker(folder, resolved.value.model, made_by)
    opened = open_dataset(resolved.value.data)
    report = check(opened, near_duplicates=False, progress=progress)
    refuse_unlike(report.facts.fingerprint)
    split = read_split(folder)
    dataset = _with_parts(opened, report, split)
    _refuse_other_classes(folder, resolved.value, dataset)
    network = make_network(resolved.value, dataset)
    if found.checkpoint is None:
        begin(network, resolved.value, dataset)
    now = circumstances_of(network, resolved.value, report.facts.fingerprint)
    before = now if found.checkpoint is None else found.checkpoint.state.circumstances
    _refuse_other_settings(folder, before, now)
    differences = list(_differences(before, now, _changed_pictures(opened, report, split)))
    if differences and not inexact:
        raise UsageError(
            folder,
            f"it cannot go on bit by bit, for there differ {'; '.join(differences)}",
            f"put that back, or accept it: {resume_command(folder)} --inexact",
        )
    notes = [f"passed over a damaged checkpoint: {damaged}" for damaged in found.damaged]
    notes += [f"not bit by bit what an undisturbed run gives: {difference}" for difference in differences]
    resumption = Resumption(found.checkpoint, tuple(notes))
    return planned(resolved, dataset, report, network, lambda: folder, resumption)


def refuse_beside(where: str, given: Sequence[str]) -> None:
    """Raise UsageError if anything else was `given` to a resumption, by the names people know it by."""
    if given:
        raise UsageError(
            where,
            f"a resumed run keeps its data and settings, so {', '.join(given)} cannot be given",
            "leave that out, or start a new run",
        )


def _refuse_other_maker(folder: Path, model: str, made_by: str | None) -> None:
    """Raise where a function makes the run's network and the caller did not name it, or named another."""
    from striate.models.foreign import refuse_code

    if made_by is None:
        refuse_code(model, folder)
    elif made_by != model:
        raise UsageError(
            f"--model {made_by}", f"the network of this run is {model}", f"say {model}, or nothing"
        )


def _refuse_unless_unfinished(folder: Path) -> None:
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(
            folder, f"there is no run in this folder (no {CONFIG_FILE})", "give the folder of a run"
        )
    if (folder / METRICS_FILE).exists():
        again = f"striate train DATA --config {folder / CONFIG_FILE} --epochs MORE"
        raise UsageError(folder, "this run is finished", f"to train longer, start a new one: {again}")


def _with_parts(dataset: Dataset, report: CheckReport, split: Mapping[str, Part]) -> Dataset:
    """The usable pictures of `dataset` that `split` names, in its order: order and chance hang on it."""
    found = {dataset.items[index].key: index for index in report.usable.tolist()}
    kept = dataset.only(found[key] for key in split if key in found)
    return replace(kept, items=tuple(replace(item, part=split[item.key]) for item in kept.items))


def _refuse_other_classes(folder: Path, config: RunConfig, dataset: Dataset) -> None:
    if tuple(config.network.classes) != dataset.classes:
        raise UsageError(
            folder,
            f"the data has the classes {', '.join(dataset.classes)} now, "
            f"the run was begun with {', '.join(config.network.classes)}",
            "put the data back as it was, or start a new run",
        )


def _refuse_other_settings(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    # One that only `now` has is new in this version of striate, and its default is what was.
    changed = [
        f"{key.removeprefix(_SETTINGS)} is {now[key]}, it was {before[key]}"
        for key in sorted(before.keys() & now.keys())
        if key.startswith(_SETTINGS)
        and key.removeprefix(_SETTINGS) not in WITHOUT_EFFECT
        and before[key] != now[key]
    ]
    if changed:
        raise UsageError(
            folder / CONFIG_FILE,
            f"its settings were changed since: {'; '.join(changed)}",
            f"put them back, or start a new run: striate train DATA --config {folder / CONFIG_FILE}",
        )


def _changed_pictures(dataset: Dataset, report: CheckReport, split: Mapping[str, Part]) -> list[str]:
    """What happened to the pictures, as far as their names tell."""
    there = {dataset.items[index].key for index in report.usable.tolist()}
    gone, new = sorted(split.keys() - there), sorted(there - split.keys())
    return [
        f"{len(keys)} picture{'s' * (len(keys) != 1)} {what} "
        f"({', '.join(keys[:_NAMED])}{', ...' * (len(keys) > _NAMED)})"
        for keys, what in ((gone, "gone or unreadable"), (new, "new and left out"))
        if keys
    ]


def _differences(before: Mapping[str, str], now: Mapping[str, str], pictures: list[str]) -> Iterator[str]:
    """What is not as it was, one phrase each."""
    if before.get("data") != now["data"] or pictures:
        yield f"the data: {', '.join(pictures) or 'contents or labels of pictures changed'}"
    for name in sorted((before.keys() | now.keys()) - {"data"}):
        if not name.startswith(_SETTINGS) and before.get(name) != now.get(name):
            yield f"{name}: {now.get(name, 'none')}, it was {before.get(name, 'none')}"
