"""What `check` found, for people."""

from striate import api
from striate.cli.terminal import CountingView, data_console, print_labelled, table

__all__ = ["CheckView"]

_STYLES = {  # worst first
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
}


class CheckView(CountingView):
    """Progress of a check, and its findings."""

    title = "checking"

    def outcome(self, checked: "api.Checked") -> None:
        """Counts, sizes and findings on stdout, worst first."""
        self.stop()
        console = data_console()
        for heading, lines in checked.describe():
            print_labelled(console, heading, lines)
        columns = "class", *checked.columns
        console.print(table(columns, checked.class_rows(), numbers=range(1, len(columns))))
        findings = checked.report.findings
        for finding in sorted(findings, key=lambda finding: list(_STYLES).index(finding.level)):
            where = "".join(f"{part}: " for part in (finding.file, finding.id) if part)
            print_labelled(console, finding.level, [f"{where}{finding.message}"], _STYLES[finding.level])
            print_labelled(console, "", [f"fix: {finding.fix}"])
        counts = {level: sum(finding.level == level for finding in findings) for level in _STYLES}
        summary = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
        print_labelled(console, "found", [summary])
