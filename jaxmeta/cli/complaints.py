"""What tyro complains of, in one sentence.

tyro prints a box: a title in its upper edge, then sections with a line across between them, of
which the first says what is wrong and the others what could have been meant. The events that it
has for programs are private to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxmeta.cli.reading import Unread
from jaxmeta_envs.core.errors import closest

_PART = re.compile(r"[a-z][\w.-]*:\S*")  # such as algorithm.memory:lstm


class Given(NamedTuple):
    """What tyro was given, and could not read.

    Attributes:
        command: What the user typed before the arguments.
        arguments: Those of the options.
        unread: Words that are no numbers; tyro complains of the last one.
    """

    command: str
    arguments: Sequence[str]
    unread: Sequence[Unread]


class Complaint(NamedTuple):
    """What is in the box, without its frame; every section on one line."""

    title: str
    said: str
    others: tuple[str, ...]

    def section(self, heading: str) -> str:
        """Returns what stands in the section that begins so; else nothing."""
        return next((s.removeprefix(heading) for s in self.others if s.startswith(heading)), "")


def sentence(text: str, given: Given) -> str:
    """Returns one sentence on what tyro printed ``text`` about."""
    complaint = _read(text)
    say = _KINDS.get(complaint.title)
    found = None if say is None else say(complaint, given)
    return found or f"{complaint.said}; {given.command} --help lists what can be given"


def _read(text: str) -> Complaint:
    edge, *lines = text.splitlines()
    sections = [""]
    for line in lines:
        inside = line.strip("│╰╯ ")
        if inside and set(inside) <= set("─-"):  # the latter where output is not UTF-8
            sections.append("")
        else:
            sections[-1] += f" {inside}"
    said, *others = filter(None, (section.strip(" .") for section in sections))
    return Complaint(edge.strip("╭╮─ "), said, tuple(others))


def _no_number(complaint: Complaint, given: Given) -> str | None:
    option = re.match(r"Error parsing (--[\w.-]*\w)", complaint.said)
    if option is None or not given.unread:
        return None
    word, allowed = given.unread[-1]
    none = ", or None" if "NoneType" in complaint.said else ""
    return f"{option[1]} is {word!r}; it must be {allowed}{none}"


def _no_choice(complaint: Complaint, given: Given) -> str | None:
    del given
    found = re.match(r"invalid choice ('.*') for argument '(\S+)'\. .* \((.*)\)", complaint.said)
    if found is None:
        return None
    word, option, choices = found[1].strip("'"), found[2], re.findall(r"'([^']*)'", found[3])
    return f"{option} is {word!r}; it must be one of {', '.join(choices)}{closest(word, choices)}"


def _late_part(complaint: Complaint, given: Given) -> str | None:
    del given
    found = re.search(r"ubcommand '(\S+)'", complaint.said)
    return found and f"{found[1]} must be written before the options of that part"


def _unknown(complaint: Complaint, given: Given) -> str | None:
    """Says which part or option there is not, and what is like it."""
    words = complaint.said.partition("options: ")[2].replace(", ", " ").split()
    parts = complaint.section("Available subcommands: ").split(", ")
    for word in filter(_PART.fullmatch, words):
        return _unknown_part(word, parts, given)
    near = complaint.section("Perhaps you meant: ")
    for word in words:
        if word.startswith("-"):
            return _unknown_option(word.partition("=")[0], near, parts, given)
    return None


def _unknown_part(word: str, parts: Sequence[str], given: Given) -> str:
    field = word.partition(":")[0]
    same = [part for part in parts if part.startswith(f"{field}:")]
    if not same and sum(a.startswith(f"{field}:") for a in given.arguments) > 1:
        return f"part is {word!r}; it must be chosen once"
    return f"part is {word!r}; it must be one of {', '.join(same or parts)}{closest(word, parts)}"


def _unknown_option(option: str, near: str, parts: Sequence[str], given: Given) -> str:
    """Says what is wrong with an option.

    Args:
        option: The option.
        near: Options like it with their descriptions and, last, the part that each belongs to.
        parts: All parts that can be chosen.
        given: What tyro was given.
    """
    said = f"{option} is no option of {given.command}"
    same = [part for part in parts if part.startswith(f"{option.lstrip('-')}:")]
    if same:
        return f"{said}; a part is chosen by one of {', '.join(same)}"
    _, found, rest = f" {near}".partition(f" {option} ")
    owner = re.search(r"(\S+:\S+) --help", rest)
    if found and owner is not None:
        return f"{option} is an option of {owner[1]}, which must be written before it"
    known = re.findall(r"(?<=\s)--[\w.-]*\w", f" {near}".replace(f"{given.command} --help", ""))
    return f"{said}{closest(option, known)}; --help lists them"


_KINDS: Mapping[str, Callable[[Complaint, Given], str | None]] = {
    "Value error": _no_number,
    "Invalid choice": _no_choice,
    "Unrecognized options": _unknown,
    "Subcommand already selected": _late_part,
    "Conflicting subcommand selection": _late_part,
}
