"""The part of YAML that a profile uses: mappings of scalars, two deep, with line numbers.

The document is built from PyYAML's events rather than by ``safe_load``: that keeps the line of every
key and the text of every scalar as it was written, and refuses anchors, aliases, tags and repeated
keys before they have any effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esp_at_tools.errors import InputError

_MAX_DEPTH = 3  # the sections, their entries, and one more to name what does not belong there
_MAX_SHOWN = 40
_MAX_PROBLEM = 200
_TAG_PREFIX = "tag:yaml.org,2002:"
_PLAIN_KINDS = ("str", "int", "float", "bool", "null", "timestamp")


@dataclass(frozen=True)
class ScalarNode:
    """One value.

    Attributes:
        text: as it is written, without quotes.
        kind: what YAML takes it for: ``str``, ``int``, ``float``, ``bool``, ``null``, ``timestamp`` or
            ``other``.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class ListNode:
    """A list; what is in it does not matter here."""


@dataclass(frozen=True)
class MappingNode:
    """Keys with their line, from 1, and value, in the order of the file."""

    entries: dict[str, tuple[int, Node]]


Node = ScalarNode | ListNode | MappingNode


def read_document(data: bytes, what: str) -> MappingNode:
    """Return the one mapping that a profile consists of.

    Args:
        data: the file, YAML or JSON, in UTF-8.
        what: the name of the file, for errors.

    Raises:
        InputError: it is not that; the message names the file and, where it can, the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what}: not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error
    if text.lstrip()[:1] == "{":
        text = _json_as_yaml(text)
    root = _Reader(text, what).document()
    if not isinstance(root, MappingNode):
        if isinstance(root, ScalarNode) and root.kind == "null" and not root.text:
            raise InputError(f"{what}: is empty", "give settings:, pki: or gatts:")
        raise InputError(f"{what}: is not a profile", "it must hold settings:, pki: or gatts:")
    return root


def _json_as_yaml(text: str) -> str:
    """Replace tabs where the text is JSON, which allows them between its parts while YAML does not."""
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")  # inside its strings JSON has no raw tab


def _whole(text: str) -> str:
    """Join the halves of characters that JSON writes as two escapes; a lone half stays as it is."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


class _Reader:
    """Reads one document from PyYAML's events."""

    def __init__(self, text: str, what: str) -> None:
        import yaml

        self._yaml: Any = yaml
        self._loader: Any = None
        self._text = text
        self._what = what

    def document(self) -> Node:
        """Return the root; InputError for whatever is wrong."""
        yaml = self._yaml
        try:
            self._loader = yaml.SafeLoader(self._text)
            root = self._root()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(filter(None, (error.context, error.problem)))[:_MAX_PROBLEM]
            place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
            hint = "indent with spaces" if "'\\t'" in problem else "write 'name: value' lines"
            raise InputError(f"{self._what}: {place}not YAML: {problem}", hint) from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # ValueError and OverflowError: an escape such as "\\UFFFFFFFF" that is no character
            problem = " ".join(str(error).split())[:_MAX_PROBLEM]
            raise InputError(f"{self._what}: not YAML: {problem}", "write 'name: value' lines") from error
        return root

    def _root(self) -> Node:
        yaml = self._yaml
        self._next()  # start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return ScalarNode("", "null")
        root = self._node(self._next(), 0)
        self._next()  # end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, "a second document", "a profile is one document: leave out '---'")
        return root

    def _next(self) -> Any:
        return self._loader.get_event()

    def _node(self, event: Any, depth: int) -> Node:
        yaml = self._yaml
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._error(event, "an anchor or alias", "write the value itself")
        if event.tag is not None:
            raise self._error(event, f"the tag {event.tag[:_MAX_SHOWN]!r}", "write the value without a tag")
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(_whole(event.value), self._kind(event))
        if depth >= _MAX_DEPTH:
            raise self._error(event, "something nested too deep", "a profile is two levels deep")
        if isinstance(event, yaml.SequenceStartEvent):
            self._skip_list(depth)
            return ListNode()
        return self._mapping(depth)

    def _kind(self, event: Any) -> str:
        tag: str = self._loader.resolve(self._yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(_TAG_PREFIX)
        return kind if kind in _PLAIN_KINDS else "other"

    def _skip_list(self, depth: int) -> None:
        while not isinstance(event := self._next(), self._yaml.SequenceEndEvent):
            self._node(event, depth + 1)

    def _mapping(self, depth: int) -> MappingNode:
        entries: dict[str, tuple[int, Node]] = {}
        while not isinstance(event := self._next(), self._yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, ScalarNode):
                raise self._error(event, "a list or mapping as a name", "write 'name: value'")
            if key.text in entries:
                first = entries[key.text][0]
                raise self._error(
                    event, f"{key.text[:_MAX_SHOWN]!r} again, first in line {first}", "give it once"
                )
            entries[key.text] = (event.start_mark.line + 1, self._node(self._next(), depth + 1))
        return MappingNode(entries)

    def _error(self, event: Any, found: str, hint: str) -> InputError:
        return InputError(f"{self._what}: line {event.start_mark.line + 1}: {found}", hint)
