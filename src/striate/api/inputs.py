"""The pictures that a user names: files, folders, zips."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from striate.api.shards import Shard
from striate.data.dataset import Finding
from striate.data.formats import is_picture
from striate.data.tree import Tree, open_tree
from striate.errors import DataError

__all__ = ["Pictures", "find_pictures"]


Place: TypeAlias = tuple[str, Tree | None, str]
"""The key of a picture, the folder or zip that holds it, the path in there."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures by key, their content fetched only as they are iterated over."""

    places: tuple[Place, ...]
    findings: tuple[Finding, ...] = ()  # what folders held and was left out
    whole: tuple[Place, ...] = ()  # of a shard: all pictures of the job, by which its own are named

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[tuple[str, Path | bytes]]:
        for number in range(len(self)):
            yield self.places[number][0], self.content(number)

    def of(self, numbers: Sequence[int]) -> "Pictures":
        """The pictures with these numbers, from 0."""
        chosen = tuple(self.places[number] for number in numbers)
        return replace(self, places=chosen, whole=self.whole or self.places)

    @property
    def keys(self) -> list[str]:
        """The keys of all pictures of the job, those of other shards too, in the order they were given."""
        return [key for key, _, _ in self.whole or self.places]

    def shard(self, shard: Shard) -> "Pictures":
        """Every n-th picture by key, from the i-th: the shards of a job share no picture and lack none."""
        places = sorted(self.places, key=itemgetter(0))[shard.number - 1 :: shard.count]
        return Pictures(tuple(places), self.findings if shard.number == 1 else (), self.places)

    def content(self, number: int) -> Path | bytes:
        """Picture `number`, from 0: a file to decode, or its bytes."""
        _, tree, path = self.places[number]
        return Path(path) if tree is None else tree.content(path)


def find_pictures(inputs: Iterable[str | Path]) -> Pictures:
    """Every file that is named, and all pictures below each folder and in each zip, in order.

    A named file is taken whatever its suffix; in a folder only picture suffixes count. Raises DataError
    for a folder or zip without a picture.
    """
    places: list[Place] = []
    findings: list[Finding] = []
    for source in map(Path, inputs):
        if not (source.is_dir() or (source.suffix.lower() == ".zip" and source.is_file())):
            places.append((str(source), None, str(source)))
            continue
        tree = open_tree(source)
        files = [file for file in tree.files if is_picture(file)]
        if not files:
            raise DataError(source, "there is no picture in it", "name a folder that holds pictures")
        places += [(str(source / file), tree, file) for file in files]
        findings += [finding for finding in tree.findings if finding.level == "error"]
    return Pictures(tuple(places), tuple(findings))
