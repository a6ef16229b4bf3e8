"""Makes docs/train-digits.svg: what `striate train digits` prints on a terminal, as a picture.

Usage: python docs/make_pictures.py   (in an environment with striate[train])
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 100

# No web font: the picture must look the same without a network.
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    """Run the command in an empty folder and draw its output."""
    terminal = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            ["striate", "train", "digits"],
            cwd=folder,
            env={**os.environ, **terminal},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
    text = re.sub(r"\x1b\[\?25[lh]\n?", "", result.stdout).strip("\n")
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(f"$ striate train digits\n\n{text}"))
    svg = console.export_svg(title="striate train digits", theme=MONOKAI, code_format=FRAME)
    (HERE / "train-digits.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
