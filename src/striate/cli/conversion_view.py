"""What a person sees of a dataset being converted."""

import shlex

from striate import api
from striate.cli.terminal import CountingView, data_console, print_labelled

__all__ = ["ConversionView"]

_MOST_FINDINGS = 6


class ConversionView(CountingView):
    """Progress of the writing, what was left out and lost, and one line of what there is now."""

    title = "writing"

    def outcome(self, report: "api.DatasetConversion") -> None:
        """Notes, what was left out and what is lost on stderr, the new folder on stdout."""
        self.stop()
        print_labelled(self.console, "data", report.notes)
        for finding in report.left_out[:_MOST_FINDINGS]:
            where = f"{finding.file}, {finding.id}" if finding.id else finding.file
            print_labelled(self.console, "left out", [f"{where}: {finding.message}"], "red")
        if len(report.left_out) > _MOST_FINDINGS:
            more = f"and {len(report.left_out) - _MOST_FINDINGS:,} more; striate check names all"
            print_labelled(self.console, "", [more])
        print_labelled(self.console, "lost", report.lost, "yellow")
        counts = [f"{part or 'no part'} {count:,}" for part, count in report.pictures.items()]
        parts = "" if set(report.pictures) == {""} else f" ({', '.join(counts)})"
        line = f"{report.folder}: {sum(report.pictures.values()):,} pictures{parts}, "
        line += f"{report.boxes:,} boxes of {len(report.classes):,} classes as {report.format}; "
        line += f"next: striate check {shlex.quote(report.folder)}"
        data_console().print(line, markup=False, soft_wrap=True)
