"""What a person sees of an export: the plan, the progress, the proof, and what to do with the file."""

import shlex

from striate import api
from striate.cli.terminal import CountingView, data_console, percent, print_labelled
from striate.errors import DataError

__all__ = ["ExportView"]


class ExportView(CountingView):
    """The plan and progress of an export on stderr, its proof on stdout."""

    def unreadable(self, _: str, error: DataError) -> None:
        """A picture that cannot be used, left out of the proof."""
        self.console.print(f"error: {error}", markup=False, soft_wrap=True)

    def plan(self, plan: "api.ExportPlan") -> None:
        """The plan, before anything is written."""
        self.console.print()
        for heading, lines in plan.describe():
            print_labelled(self.console, heading, lines)
        self.console.print()

    def stage(self, title: str, done: int, total: int) -> None:
        """`done` of `total` pictures of a stage are done."""
        if title != self.title:
            self.stop()
            self.title = title
        self.progress(done, total)

    def outcome(self, found: "api.Export") -> None:
        """What was written and how it was proven."""
        self.stop()
        console = data_console()
        console.print()
        size = f"{_megabytes(found.size)}, the model file has {_megabytes(found.model_size)}"
        print_labelled(console, "wrote", [f"{found.path}: {size}"])
        print_labelled(console, "takes", found.inputs)
        print_labelled(console, "gives", found.outputs)
        print_labelled(console, "proof", [*_compared(found), found.proof.agreement.summary])
        print_labelled(console, "measured", _measured(found))
        print_labelled(console, "speed", [_speed(found)])
        console.print()
        print_labelled(console, "next", _next(found))
        console.print()


def _compared(found: "api.Export") -> list[str]:
    proof = found.proof
    left_out = f", {proof.unreadable:,} left out" if proof.unreadable else ""
    extra = f"{proof.alone} of them also alone, and {proof.odd_sizes} at odd sizes"
    return [f"{proof.source}{left_out}; {extra}"]


def _measured(found: "api.Export") -> list[str]:
    """The measures of both sides, a line each; the first is the one that decides."""
    before, after = found.proof.before, found.proof.after
    if before is None or after is None:
        return ["nothing, without labels"]
    width = max(len(label) for label, _ in before.headline)
    return [
        f"{label:<{width}}   model {percent(value):>7}   export {percent(now):>7}"
        for (label, value), (_, now) in zip(before.headline, after.headline, strict=True)
    ]


def _speed(found: "api.Export") -> str:
    sides = (f"{name} {rate:,.{0 if rate >= 10 else 1}f}" for name, rate in found.speed.items())
    ratio = found.speed["export"] / found.speed["model"]
    return f"{', '.join(sides)} pictures/s one at a time, {ratio:.1f} times the model (roughly)"


def _megabytes(size: int) -> str:
    """A size for people: 1 MB is 10**6 bytes."""
    return f"{size / 1e6:,.2f} MB" if size < 10e6 else f"{size / 1e6:,.1f} MB"


def _next(found: "api.Export") -> list[str]:
    """Commands to try now, each with what it shows."""
    path = shlex.quote(str(found.path))
    if found.target == "torch":
        return [f"torch.export.load({str(found.path)!r}).module()   in a program that has torch"]
    commands = {
        f"striate predict {path} PHOTO.jpg": "what is on a picture, without torch",
        f"striate eval {path} DATA": "how good it is on labelled pictures",
    }
    width = max(map(len, commands))
    return [f"{command:<{width}}   {shows}" for command, shows in commands.items()]
