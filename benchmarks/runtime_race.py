"""Whole processes from photos on disk to a file of results, in interleaved rounds."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from runtime_answers import agreement
from runtime_models import Case, Files
from runtime_processes import Cost, cost_of
from runtime_ways import LOOP, OURS, TORCHVISION, WINOGRAD, Way, ways_of

from striate.modelfile import read_card
from training import spread

__all__ = ["Track", "raced"]

STARTS = 3  # processes on one photo, of which the median counts
TRIAL = 4  # one of so many photos is enough to choose a variant
GOALS: dict[str, dict[str, float]] = {  # time of OURS, and of WINOGRAD, / time of the peer, at most
    "resnet18": {TORCHVISION: 0.45, LOOP: 1.0},
    "mobilenet_v2": {TORCHVISION: 0.35, LOOP: 0.85},
}
MEMORY_GOAL = 0.5  # their peak memory / torchvision's, at most

Row = dict[str, Any]


@dataclass(frozen=True)
class Track:
    """Where the photos are and where the results go."""

    photos: Path
    some: Path  # a folder with one of TRIAL photos
    one: Path  # a folder with one photo
    sized: Path  # for folders of photos that have the size of a network's input
    results: Path

    def cost(self, way: Way, photos: Path, variant: str | None = None) -> Cost:
        """What one process takes; its results lie in `results` then."""
        out = self.written(way)
        out.unlink(missing_ok=True)
        return cost_of(way.command(photos, out, variant))

    def written(self, way: Way) -> Path:
        """The file that `way` writes."""
        return self.results / (way.name.replace(", ", "-").replace(" ", "_") + way.suffix)


def raced(case: Case, files: Files, track: Track, rounds: int) -> Row:
    """The costs of each way, how they relate to OURS in the same round, and whether the answers are equal."""
    ways = [fastest(way, track) for way in ways_of(case, files)]
    starts = {way.name: [track.cost(way, track.one).seconds for _ in range(STARTS)] for way in ways}
    costs = [turn(ways, track, backwards=bool(number % 2)) for number in range(rounds)]
    answers = compared(case, ways, track, track.photos)
    rows = {
        way.name: {
            "variant": way.only,
            **figures(way.name, costs),
            "start_seconds": round(statistics.median(starts[way.name]), 2),
            "agreement": answers[way.name],
        }
        for way in ways
    }
    if case.is_detector:
        for name, same in at_input_size(case, files, ways, track).items():
            rows[name]["agreement_at_input_size"] = same
    return {"score": files.score, "ways": rows, "goals": list(judged(case.network, costs))}


def compared(case: Case, ways: Sequence[Way], track: Track, photos: Path) -> dict[str, Row]:
    """How far what each way wrote last, for `photos`, is what OURS wrote."""
    ours = next(track.written(way) for way in ways if way.name == OURS)
    count = len(list(photos.iterdir()))
    return {way.name: agreement(ours, track.written(way), case.is_detector, count) for way in ways}


def at_input_size(case: Case, files: Files, ways: Sequence[Way], track: Track) -> dict[str, Row]:
    """The same of photos that nobody has to resize.

    An untrained detector makes other boxes of pixels that were rounded otherwise after resizing.
    """
    height, width = read_card(files.model).preprocess.size
    folder = track.sized / case.network
    folder.mkdir(parents=True)
    for photo in sorted(track.some.iterdir()):
        resized = Image.open(photo).convert("RGB").resize((width, height))
        resized.save(folder / f"{photo.stem}.png")
    for way in ways:
        track.cost(way, folder)
    return compared(case, ways, track, folder)


def fastest(way: Way, track: Track) -> Way:
    """`way` with the variant chosen that needs least for some of the photos."""
    if len(way.variants) == 1:
        track.cost(way, track.one)  # byte code is written, files come into the page cache
        return way
    seconds = {variant: track.cost(way, track.some, variant).seconds for variant in way.variants}
    return replace(way, only=min(seconds, key=seconds.__getitem__))


def turn(ways: Sequence[Way], track: Track, backwards: bool) -> dict[str, Cost]:
    """One process of each way; every second round goes back, so that nobody is always behind the same."""
    order = reversed(ways) if backwards else iter(ways)
    return {way.name: told(way.name, track.cost(way, track.photos)) for way in order}


def told(name: str, cost: Cost) -> Cost:
    """`cost`, printed."""
    print(
        f"    {name:32}{json.dumps({key: round(value, 2) for key, value in asdict(cost).items()})}",
        flush=True,
    )
    return cost


def figures(name: str, costs: Sequence[Mapping[str, Cost]]) -> Row:
    """Of one way over all rounds; a ratio is OURS / it, in the same round."""
    own = [cost[name] for cost in costs]
    found: Row = {"all_seconds": [round(cost.seconds, 2) for cost in own]}
    for key in ("seconds", "cpu_seconds", "peak_megabytes"):
        found |= spread(key, [getattr(cost, key) for cost in own], 2)
    if name != OURS:
        found |= spread("ratio", ratios(costs, "seconds", OURS, name), 3)
        found |= spread("memory_ratio", ratios(costs, "peak_megabytes", OURS, name), 3)
    return found


def ratios(costs: Sequence[Mapping[str, Cost]], key: str, ours: str, name: str) -> list[float]:
    """What `ours` took / what `name` took, round by round."""
    return [getattr(cost[ours], key) / getattr(cost[name], key) for cost in costs]


def judged(network: str, costs: Sequence[Mapping[str, Cost]]) -> Iterator[Row]:
    """The goals beside what was reached."""
    for ours, words in ((OURS, ""), (WINOGRAD, " by Winograd")):
        for peer, most in GOALS.get(network, {}).items() if ours in costs[0] else ():
            yield goal(f"time{words} beside {peer}", most, ratios(costs, "seconds", ours, peer))
            if peer == TORCHVISION:
                memory = ratios(costs, "peak_megabytes", ours, peer)
                yield goal(f"memory{words} beside {peer}", MEMORY_GOAL, memory)


def goal(what: str, most: float, rounds: Sequence[float]) -> Row:
    """One goal: at most so much in the median."""
    reached = round(statistics.median(rounds), 3)
    return {"what": what, "at_most": most, "reached": reached, "is_met": reached <= most}
