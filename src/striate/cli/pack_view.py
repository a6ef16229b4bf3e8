"""What a person sees of a packing."""

import shlex
from collections import Counter

from striate import api
from striate.cli.terminal import CountingView, data_console, print_labelled

__all__ = ["PackView"]

_MOST_FINDINGS = 6


class PackView(CountingView):
    """Progress of the check and of the packing, what was left out, and one line of what there is now."""

    def progressed(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` pictures are checked or packed."""
        if stage != self.title:
            self.stop()
            self.title = stage
        self.progress(done, total)

    def outcome(self, packed: "api.Packed") -> None:
        """Notes and what was left out on stderr, the shards on stdout."""
        self.stop()
        print_labelled(self.console, "data", packed.notes)
        for finding in packed.left_out[:_MOST_FINDINGS]:
            print_labelled(self.console, "left out", [f"{finding.file}: {finding.message}"], "red")
        if len(packed.left_out) > _MOST_FINDINGS:
            kinds = Counter(finding.code for finding in packed.left_out[_MOST_FINDINGS:])
            more = ", ".join(f"{count} {code}" for code, count in kinds.items())
            print_labelled(self.console, "", [f"and {more}; striate check names all"])
        manifest = packed.manifest
        parts = ", ".join(f"{part} {count:,}" for part, count in manifest.pictures.items())
        count = len(manifest.shards)
        shards = f"{count} shard{'s' * (count != 1)}"
        shards += f" ({packed.kept} there already)" if packed.kept else ""
        line = f"{packed.folder}: {sum(manifest.pictures.values()):,} pictures ({parts}) in {shards}, "
        line += f"{packed.bytes / 1e6:,.1f} MB; next: striate train {shlex.quote(str(packed.folder))}"
        data_console().print(line, markup=False, soft_wrap=True)
