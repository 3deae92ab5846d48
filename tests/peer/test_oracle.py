#!/usr/bin/env python3
"""Postfix as oracle: the same main.cf lines, tables, clients and dialogues for Postfix 3.7 and
for Postern; every line of every reply must be the same, or be named in oracle/differences.

    test_oracle.py [WORD...]    only settings with one of the words in their name, verbosely
"""
import sys

from oracle import lab

lab.need("postfix", "postmap")
lab.enter()

from oracle import cases  # noqa: E402
from oracle.policy_double import PolicyDouble  # noqa: E402
from oracle.postfix import Postfix  # noqa: E402

CASES = cases.HERE / "cases"


def wanted(settings, words):
    return [s for s in settings if not words or any(word in s.name for word in words)]


def show_all(outcomes):
    for outcome in outcomes:
        print(outcome if not outcome.is_equal else "%s\n    %s\n    %s\n      both: %s" % (
            outcome.setting.name, outcome.dialogue, outcome.step, outcome.postfix))
        yield outcome


def main(words):
    settings = wanted([s for path in sorted(CASES.glob("*.txt")) for s in cases.read_cases(path)],
                      words)
    differences = cases.read_differences()
    policy = PolicyDouble()
    with lab.Dns(), Postfix(cases.BASE) as postfix:
        prepared = [cases.Prepared(s, n, postfix, policy.port) for n, s in enumerate(settings)]
        postfix.start()
        outcomes = cases.compare_all(prepared)
        count, equal, allowed, bad = cases.judge(show_all(outcomes) if words else outcomes,
                                                 differences)
        if words:
            print(postfix.log()[-5000:])
    dialogues = sum(len(s.dialogues) for s in settings)
    print("%d settings, %d dialogues, %d replies: %d equal, %d wanted differences, %d others"
          % (len(settings), dialogues, count, equal, allowed, len(bad)))
    unused = [] if words else [d for d in differences if not d.used
                               and not d.fields[0].startswith("seed")]
    for d in unused:
        print("oracle/differences:%d: nothing differs so any more" % d.number)
    return bool(bad or unused)


sys.exit(main(sys.argv[1:]))
