#!/usr/bin/env python3
"""Postfix as oracle for random restriction lists: random settings, clients, HELO names, senders
and recipients, all drawn from a seed. Differences as in test_oracle.py.

    ORACLE_SEEDS=500 test_oracle_generated.py      a longer run
    ORACLE_SEED=17 test_oracle_generated.py        that seed alone, with its lines of main.cf
"""
import os
import sys

from oracle import lab

lab.need("postfix")
lab.enter()

from oracle import cases, generate  # noqa: E402
from oracle.policy_double import PolicyDouble  # noqa: E402
from oracle.postfix import Postfix  # noqa: E402

BATCH = 100  # settings for one Postfix: each may have a process


def show(setting):
    for item in setting.params.items():
        print("%s = %s" % item)


def run(seeds, first_port, policy, differences):
    with Postfix(cases.BASE, first_port) as postfix:
        prepared = [cases.Prepared(generate.setting(seed), n, postfix, policy.port)
                    for n, seed in enumerate(seeds)]
        postfix.start()
        return cases.judge(cases.compare_all(prepared), differences)


def main():
    one = os.environ.get("ORACLE_SEED")
    count = cases.env_number("ORACLE_SEEDS", 80)
    seeds = [int(one)] if one else list(range(1, count + 1))
    policy, differences = PolicyDouble(), cases.read_differences()
    replies, failed = 0, {}
    with lab.Dns():
        for i in range(0, len(seeds), BATCH):
            count, _, _, bad = run(seeds[i:i + BATCH], 20000 + i % 10000, policy,
                                   differences)
            replies += count
            failed.update((outcome.setting.name, outcome.setting) for outcome in bad)
    for setting in failed.values() if one else ():
        show(setting)
    print("%d settings, %d replies; %s" % (
        len(seeds), replies, "; ".join("again: ORACLE_SEED=%s" % name.split()[1]
                                       for name in failed) or "no difference"))
    return bool(failed)


sys.exit(main())
