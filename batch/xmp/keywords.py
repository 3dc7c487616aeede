"""Keywords below a root, in the three properties from which photo managers read them.

``dc:subject`` holds flat keywords, ``lr:hierarchicalSubject`` paths with ``|`` and
``digiKam:TagsList`` paths with ``/``. Paths below the root belong to batch-label, so that a
correction made elsewhere is replaced and not doubled. A flat keyword may be the user's own; which
ones were added is recorded in properties of batch-label. Without the record, because a program
dropped it, the flat keywords of the paths below the root count as added.
"""

from __future__ import annotations

from batch.xmp.packet import Packet
from batch.xmp.value_list import ValueList

SEPARATOR = "|"  # of the levels of a root, as in lr:hierarchicalSubject

# The record: flat keywords that were added and those that were there already, with their root, and
# properties that were added.
ADDED = "batchlabel:AddedKeywords"
KEPT = "batchlabel:KeptKeywords"
CREATED = "batchlabel:CreatedProperties"


class _PathList:
    """A property with paths: hierarchical keywords.

    Attributes:
        name: its name with its usual prefix.
        values: the paths.
        separator: what stands between the levels of a path.
    """

    def __init__(self, packet: Packet, name: str, kind: str, separator: str) -> None:
        self.name = name
        self.values = ValueList(packet, name, kind)
        self.separator = separator

    def write_path(self, levels: list[str]) -> str:
        return self.separator.join(levels)

    def list_below(self, root: str) -> list[str]:
        """List the paths below a root, and the root itself."""
        return [path for path in self.values.read() if is_below(path, root)]


def split_levels(path: str) -> list[str]:
    """Split a path into its levels, whichever of the two separators a program has written."""
    return path.replace("/", SEPARATOR).split(SEPARATOR)


def is_below(path: str, root: str) -> bool:
    """Return whether a path is a root or below it."""
    levels = split_levels(root)
    return split_levels(path)[: len(levels)] == levels


class Keywords:
    """The keywords of a sidecar."""

    def __init__(self, packet: Packet) -> None:
        """Find the properties in a parsed sidecar."""
        self._subject = ValueList(packet, "dc:subject")
        self._paths = _PathList(packet, "lr:hierarchicalSubject", "Bag", SEPARATOR)
        self._tags = _PathList(packet, "digiKam:TagsList", "Seq", "/")
        self._added = ValueList(packet, ADDED)
        self._kept = ValueList(packet, KEPT)
        self._created = ValueList(packet, CREATED)

    def replace_below(self, root: str, keywords: tuple[str, ...]) -> None:
        """Replace the keywords below a root.

        Args:
            root: the path of the root, with ``|`` between its levels.
            keywords: the new ones, without the root; empty to remove those that are there.

        Raises:
            SidecarError: a property is neither a list nor a text.
        """
        roots = {root, *self._list_recorded_roots()}
        owned = self._list_owned_words(roots)
        present = self._subject.read()
        foreign = [word for word in present if word not in owned]
        levels = set(split_levels(root))
        # Lightroom adds the levels of a path to the flat keywords; they stay as long as the path.
        needed = {*keywords, *levels} if keywords else set()
        for other in roots - {root}:
            needed |= self._list_path_words(other)
        self._subject.change(
            {word for word in present if word in owned and word not in needed},
            [word for word in keywords if word not in present],
        )
        removed = not keywords and roots == {root}
        source = list(dict.fromkeys(foreign))
        for hierarchy in (self._paths, self._tags):
            beside = self._replace_paths(hierarchy, root, roots, keywords, source, removed)
            source = [self._tags.write_path(split_levels(path)) for path in beside or source]
        self._record(self._added, root, [word for word in keywords if word not in foreign])
        self._record(
            self._kept, root, [w for w in foreign if keywords and w in {*keywords, *levels}]
        )

    def _replace_paths(
        self,
        hierarchy: _PathList,
        root: str,
        roots: set[str],
        keywords: tuple[str, ...],
        source: list[str],
        removed: bool,
    ) -> list[str]:
        """Replace the paths below a root in one property.

        darktable and digiKam read the first property that has keywords and ignore the others. A new
        property would hide the user's keywords, so it gets these too: it mirrors what they read
        before. Once another program has added to it, it is that program's.

        Args:
            hierarchy: the property.
            root: the root.
            roots: all roots in the sidecar.
            keywords: the new keywords, without the root.
            source: the user's keywords in the property that is read if this one is missing.
            removed: whether no root is left.

        Returns:
            the user's paths in the property.
        """
        values = hierarchy.values
        owned = hierarchy.list_below(root)
        ours = {path for other in roots for path in hierarchy.list_below(other)}
        foreign = [path for path in values.read() if path not in ours]
        levels = split_levels(root)
        needed = [hierarchy.write_path([*levels, keyword]) for keyword in keywords]
        # A program may have added the root itself; it stays as long as there is a path below.
        surplus = set(owned) - {*needed, *([hierarchy.write_path(levels)] if keywords else [])}
        was_created = hierarchy.name in self._created.read()
        mirrors = set(foreign) <= set(source) and (was_created or not foreign)
        if removed:
            if mirrors:
                surplus |= set(foreign)
                foreign = []
            self._created.change({hierarchy.name} if was_created else ())
        elif keywords:
            if mirrors:
                needed = [*source, *needed]
                foreign = list(source)
            if mirrors and not was_created:
                self._created.change(add=[hierarchy.name])
            elif was_created and not mirrors:
                self._created.change({hierarchy.name})
        present = set(values.read())
        values.change(surplus, [path for path in needed if path not in present])
        return foreign

    def _list_owned_words(self, roots: set[str]) -> set[str]:
        """List the flat keywords that batch-label, or a program because of it, has added."""
        owned: set[str] = set()
        for root in roots:
            owned |= self._list_path_words(root)
            # Programs that know no paths may write one as a flat keyword.
            flat = (word for word in self._subject.read() if len(split_levels(word)) > 1)
            owned.update(word for word in flat if is_below(word, root))
        # A word that is also part of another path may be there because of that path.
        for hierarchy in (self._paths, self._tags):
            below = {path for root in roots for path in hierarchy.list_below(root)}
            for path in hierarchy.values.read():
                if path not in below:
                    owned.difference_update(split_levels(path))
        for root in roots:
            owned.update(self._read_record(self._added, root))
        for root in roots:
            owned.difference_update(self._read_record(self._kept, root))
        return owned

    def _list_path_words(self, root: str) -> set[str]:
        """List the levels of all paths below a root."""
        return {
            word
            for hierarchy in (self._paths, self._tags)
            for path in hierarchy.list_below(root)
            for word in split_levels(path)
        }

    def _list_recorded_roots(self) -> set[str]:
        entries = [*self._added.read(), *self._kept.read()]
        # An entry without a root is none of batch-label's.
        return {root for entry in entries if (root := entry.rpartition(SEPARATOR)[0])}

    def _read_record(self, record: ValueList, root: str) -> list[str]:
        entries = [entry.rpartition(SEPARATOR) for entry in record.read()]
        return [word for start, _, word in entries if start == root]

    def _record(self, record: ValueList, root: str, words: list[str]) -> None:
        wanted = [f"{root}{SEPARATOR}{word}" for word in dict.fromkeys(words)]
        present = record.read()
        own = {entry for entry in present if entry.rpartition(SEPARATOR)[0] == root}
        record.change(own - set(wanted), [entry for entry in wanted if entry not in present])
