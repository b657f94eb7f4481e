"""Proof across patterns: no message in the form of one pattern is claimed by another with a different address.

An attacker whose text stands in a message of one form may shape it so that the whole message also has the form of
another pattern, tried earlier, that takes its address from where his text stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logguardd.grammar.automaton import Automaton
from logguardd.grammar.patterns import Token
from logguardd.grammar.proof import forgery
from logguardd.grammar.structure import columns, free
from logguardd.rules.matcher import fits, heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.grammar.proof import Conflict
    from logguardd.records import Rule
    from logguardd.rules.rulefile import Pattern, RuleText


class _Form:
    """One pattern with what the search needs of it; the automaton is made when first asked for."""

    def __init__(self, rule: Rule, pattern: Pattern) -> None:
        self.rule = rule
        self.pattern = pattern
        self.heads = heads(pattern.tree)
        self.takes = bool(columns(pattern.tree, "ip"))
        self._automaton: Automaton | None = None

    @property
    def automaton(self) -> Automaton:
        self._automaton = self._automaton or Automaton(self.pattern.tree)
        return self._automaton


def crossing(texts: Sequence[RuleText]) -> str | None:
    """Return what is wrong with the first two patterns of which the earlier can be made to claim the later's messages.

    Only patterns that may meet are compared: of rules for the same program, whose messages may begin alike. A pattern
    that is nothing but <text> is left out: it claims what is left of a program's messages, and is no form of any.
    """
    forms = [_Form(text.rule, pattern) for text in texts for pattern in text.patterns]
    for number, later in enumerate(forms):
        if not free(later.pattern.tree) or _anything(later):
            continue
        for earlier in forms[:number]:
            if earlier.takes and _meet(earlier, later):
                conflict = forgery(earlier.automaton, later.automaton)
                if conflict is not None:
                    return _reason(earlier, later, conflict)
    return None


def _anything(form: _Form) -> bool:
    return len(form.pattern.tree) == 1 and isinstance(form.pattern.tree[0], Token)


def _meet(one: _Form, other: _Form) -> bool:
    return any(
        head.startswith(start) or start.startswith(head) for head in one.heads for start in other.heads
    ) and share(one.rule.app_name, other.rule.app_name)


def share(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether some app_name may be among both lists of names and globs; of two globs their literal starts decide."""
    if not one or not other:
        return True
    return any(
        fits(glob, name)
        or fits(name, glob)
        or ("*" in glob and "*" in name and _alike(glob.partition("*")[0], name.partition("*")[0]))
        for glob in one
        for name in other
    )


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _reason(earlier: _Form, later: _Form, conflict: Conflict) -> str:
    return (
        f"{later.pattern.where}: an attacker could forge the address: {conflict.message!r} is such a message, with "
        f"{conflict.other}, but {earlier.pattern.where} claims it first, with {conflict.one}; "
        "make one of the patterns stricter, or let this rule stand before that one"
    )
