"""The page about the speed of the runtime, every figure from the JSON of `runtime.py`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime_models import CASES
from runtime_ways import OURS
from tables import measured_on, table

__all__ = ["page"]

Row = Mapping[str, Any]


def page(found: Row) -> str:
    """The whole page."""
    settings = found["settings"]
    places = {network: place for place, network in enumerate(CASES)}
    by_section: dict[str, list[Row]] = {}
    for row in sorted(found["rows"], key=lambda row: places.get(row["subject"], len(places))):
        by_section.setdefault(row["section"], []).append(row)
    lines = [
        "# Speed of prediction",
        "",
        "Written by `benchmarks/runtime.py`; do not edit. How each figure is measured is told there.",
        "",
        *measured_on(found, lambda row: f"{row['section']} of {row['subject']}"),
        "",
    ]
    sections = {"processes": processes, "memory": memory, "int8": int8, "environment": environment}
    for name, write in sections.items():
        if name in by_section:
            lines += write(by_section[name], settings)
    return "\n".join(lines)


def processes(rows: Sequence[Row], settings: Row) -> Iterator[str]:
    """From photos to results."""
    yield from (
        "## From photos on disk to a file of results",
        "",
        f"{settings['photos']} photos of {settings['data']}, float32, whole processes, {settings['pairs']} "
        "interleaved rounds: the median, and in brackets the least and the largest. All ways of a network "
        f"have equal weights. A ratio is the time of `{OURS}` / the time of the way in the same round, so "
        "below 1 the way is slower. Memory is the peak of the largest process, start-up a process on one "
        "photo. Winograd is the file that `striate export --to winograd` writes.",
        "",
    )
    head = ("way", "seconds", "ratio", "CPU s", "peak MB", "memory ratio", "start-up s", "same answers")
    for row in rows:
        yield f"### {row['subject']}"
        yield ""
        yield from table(head, [process_cells(name, way) for name, way in row["ways"].items()])
        yield ""
        yield from goals(row["goals"])


def process_cells(name: str, way: Row) -> tuple[str, ...]:
    """One row of the table."""
    return (
        name + (f", {way['variant']}" if way["variant"] else ""),
        spread(way, "seconds", 1),
        spread(way, "ratio", 2) if "ratio" in way else "",
        f"{way['cpu_seconds']:.1f}",
        f"{way['peak_megabytes']:,.0f}",
        f"{way['memory_ratio']:.2f}" if "memory_ratio" in way else "",
        f"{way['start_seconds']:.1f}",
        "" if name == OURS else answers(way),
    )


def spread(row: Row, key: str, digits: int) -> str:
    """Median (least to largest)."""
    middle, least, largest = (f"{row[name]:.{digits}f}" for name in (key, f"{key}_min", f"{key}_max"))
    return f"{middle} ({least} to {largest})"


def answers(way: Row) -> str:
    """The share of equal answers, and of a detector that where nobody has to resize."""
    if "agreement_at_input_size" not in way:
        return same(way["agreement"])
    return f"{same(way['agreement'])}; at the input's size {same(way['agreement_at_input_size'])}"


def same(agreement: Row) -> str:
    """The share of equal answers."""
    if "same_boxes" in agreement:
        alike = f", {percent(agreement['similar_boxes'])} similar" if agreement["same_boxes"] < 1 else ""
        return f"{percent(agreement['same_boxes'])} of {agreement['boxes']} boxes{alike}"
    if "same_pixels" in agreement:
        return f"{percent(agreement['same_pixels'])} of pixels"
    apart = agreement["largest_confidence_difference"]
    return f"{percent(agreement['same_class'])} of classes, confidence within {apart:.0e}"


def percent(share: float) -> str:
    """ "99.98 %"; 100 % is all."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.99):.2f} %"


def goals(rows: Sequence[Row]) -> Iterator[str]:
    """What was aimed at."""
    for goal in rows:
        met = "reached" if goal["is_met"] else "not reached"
        yield f"- {goal['what']}: {goal['reached']:.2f}, aimed at {goal['at_most']} at most: {met}."
    if rows:
        yield ""


def memory(rows: Sequence[Row], settings: Row) -> Iterator[str]:
    """Engines alone."""
    yield from (
        "## Pictures in memory",
        "",
        "Engines alone, a process each, random pictures of the network's input; milliseconds of one call at "
        "a time, pictures a second of as many calls side by side as `striate predict` makes. Medians over "
        f"{settings['pairs']} rounds.",
        "",
    )
    head = ("network and engine", "ms, batch 1", "ms, batch 16", "pictures/s, 1", "pictures/s, 16", "peak MB")
    cells = [
        (f"{row['subject']}: {engine}", *engine_cells(figures))
        for row in rows
        for engine, figures in row["engines"].items()
    ]
    yield from table(head, cells)
    yield ""
    for row in rows:
        for engine, found in row["int8"].items():
            times = f"{found['times_eager']:.2f} times the pictures of PyTorch"
            yield f"- {row['subject']}: {engine} makes {times} in the same time."
    yield ""


def engine_cells(figures: Row) -> Iterator[str]:
    """The figures of one engine."""
    for key, digits in (
        ("milliseconds_batch_1", 1),
        ("milliseconds_batch_16", 1),
        ("images_per_second_batch_1", 1),
        ("images_per_second_batch_16", 1),
        ("peak_megabytes", 0),
    ):
        yield f"{figures[key]['median']:,.{digits}f}" if key in figures else ""


def int8(rows: Sequence[Row], _: Row) -> Iterator[str]:
    """What int8 loses."""
    yield from (
        "## Accuracy in int8",
        "",
        "Trained networks on the test part of their data, before and after `striate export --int8`.",
        "",
    )
    head = ("network and target", "measure", "float32", "int8", "points lost", "MB", "MB in float32")
    cells = [
        (
            f"{row['network']} on {row['data']}, {target}",
            row["score"],
            f"{100 * row['fp32']:.2f} %",
            f"{100 * figures['int8']:.2f} %",
            f"{100 * figures['lost']:.2f}",
            f"{figures['megabytes']:.1f}",
            f"{figures['megabytes_fp32']:.1f}",
        )
        for row in rows
        for target, figures in row["targets"].items()
    ]
    yield from table(head, cells)
    yield ""


def environment(rows: Sequence[Row], _: Row) -> Iterator[str]:
    """Without torch."""
    for row in rows:
        largest = ", ".join(f"{name} {size:,.0f}" for name, size in list(row["packages"].items())[:6])
        present = ", ".join(row["modules_present"]) or "none of torch, torchvision, onnx, sklearn, scipy"
        yield from (
            "## Without torch",
            "",
            f"`pip install .` without extras, in a fresh environment: {row['megabytes']:,.0f} MB "
            f"({largest}); of the large ones it has {present}.",
            "",
            f"- `import striate` takes {1000 * row['import_seconds']:.0f} ms, `striate.load` of a ResNet-18 "
            f"{1000 * row['load_seconds']:.0f} ms; a whole process that does both "
            f"{row['process_seconds']:.2f} s" + torch_words(row),
            f"- Predicting takes {row['predict_seconds']:.1f} s and {row['predict_peak_megabytes']:,.0f} MB; "
            f"its answers beside those of the environment with torch: {same(row['agreement'])}.",
            "",
        )


def torch_words(row: Row) -> str:
    """How long torch takes, where it was there."""
    seconds = row["torch_import_seconds"]
    return "." if seconds is None else f", `import torch` alone {seconds:.2f} s."
