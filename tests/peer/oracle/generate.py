"""Random settings and dialogues for the oracle: setting(seed) is always the same for a seed.

Only what both servers are meant to do alike is drawn; what is wanted to differ has its hand-made
cases. Every restriction may stand in every list, as main.cf allows it.
"""
import random

from oracle.cases import Dialogue, Setting

CLIENTS = ["127.0.0.1"] + ["192.0.2.%d" % n for n in (
    10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 22, 23, 24, 25, 30, 31)] + [
    "198.51.100.7", "198.51.100.9", "2001:db8::1", "2001:db8::10", "2001:db8::20"]
HELOS = ["helo.test", "good.client.test", "x", "a..b", "[192.0.2.1]", "[2001:db8::1]", "1.2.3.4",
         "gone.test", "servfail.test", "aonly.test", "mxonly.test", "txtonly.test", "HELO.Test",
         "under_score.test", "localmx.test", "ok.test", "badmx.test", "mxfail-none.test", "-x-.test",
         "evil.test", None]
SENDERS = ["s@ok.test", "u+ext@ok.test", "u@aonly.test", "u@gone.test", "u@nullmx.test",
           "u@servfail.test", "u@badmx.test", "u@localmx.test", "u@evil.test", "U@OK.Test", "user",
           "u@localhost", "u@[192.0.2.40]", "u@example.org", "alice@example.org", "zz@vmbox.test",
           "zz@valias.test", "erin@relay.test", "", "u@sub.ok.test", "u@mxfail-a.test",
           "u@deadmx.test", '"a b"@ok.test', "u@privmx.test", "u%ok.test@example.org"]
RCPTS = ["alice@example.org", "bob@example.org", "Alice+x@Example.org", "nobody@example.org",
         "carol@vmbox.test", "zz@vmbox.test", "dave@valias.test", "zz@valias.test",
         "erin@relay.test", "zz@relay.test", "erin@sub.relay.test", "u@foreign.test", "u@ok.test",
         "alice", "alice@localhost", "postmaster", "postmaster@example.org", "u@nullmx.test",
         "u@gone.test", "u@servfail.test", "u%foreign@example.org", "r1@example.org",
         "u@aonly.test", "alice@[127.0.0.1]"]

STATUSES = ["", "", "5.7.9 ", "4.2.1 ", "5.1.1 ", "5.1.7 ", "4.1.8 ", "5.2.0 "]
WORDS = ["no", "go away", "listed, see http://x.test/?a=b", "100% sure"]
HOST_KEYS = ["good.client.test", "client.test", "b.client.test", "test", "192.0.2.10", "192.0.2",
             "192", "198.51.100", "unknown", "2001:db8", "2001:db8::1", "localhost", "127.0.0.1",
             "listed.client.test"]
HELO_KEYS = ["helo.test", "test", "x", "[192.0.2.1]", "2.1]", "1.2.3.4", "client.test", "ok.test"]
MAIL_KEYS = ["s@ok.test", "u@ok.test", "u+ext@ok.test", "ok.test", "test", "u@", "u+ext@", "user@",
             "example.org", "alice@example.org", "bob@example.org", "vmbox.test", "relay.test",
             "foreign.test", "<>", "alice@", "localhost", "r1@example.org"]
BEHIND_KEYS = ["127.0.0.1", "10", "192.0.2.24", "mx.evil.test", "mx.ok.test", "ns.ok.test",
               "127.0.0.54", "192.0.2.40", "192.0.2", "evil.test", "test"]

PLAIN = {
    "permit_mynetworks": 3, "permit_auth_destination": 1, "permit_inet_interfaces": 1,
    "reject_unknown_client_hostname": 3, "reject_unknown_reverse_client_hostname": 3,
    "reject_invalid_helo_hostname": 3, "reject_non_fqdn_helo_hostname": 3,
    "reject_unknown_helo_hostname": 3, "reject_non_fqdn_sender": 3,
    "reject_unknown_sender_domain": 4, "reject_unlisted_sender": 2, "reject_non_fqdn_recipient": 3,
    "reject_unknown_recipient_domain": 3, "reject_unlisted_recipient": 3,
    "reject_unauth_destination": 2, "defer_unauth_destination": 1,
    "reject_multi_recipient_bounce": 2, "reject_unauth_pipelining": 1,
    "reject_plaintext_session": 1, "permit_sasl_authenticated": 1,
    "reject_rbl_client rbl.test": 3, "reject_rbl_client rbl.test=127.0.0.[3..10]": 2,
    "reject_rhsbl_client rhs.test": 1, "reject_rhsbl_reverse_client rhs.test": 1,
    "reject_rhsbl_helo rhs.test": 1, "reject_rhsbl_sender rhs.test": 2,
    "reject_rhsbl_recipient rhs.test": 1, "permit_dnswl_client white.test": 2,
    "permit_dnswl_client white.test=127.0.[0..9].[1..3]": 1, "permit_rhswl_client rhs.test": 1,
    "permit": 1, "reject": 1, "defer": 1, "defer_if_permit": 2, "defer_if_reject": 2,
}
TABLES = {
    "check_client_access": HOST_KEYS, "check_helo_access": HELO_KEYS,
    "check_sender_access": MAIL_KEYS, "check_recipient_access": MAIL_KEYS,
    "check_reverse_client_hostname_access": HOST_KEYS, "check_sender_mx_access": BEHIND_KEYS,
    "check_sender_ns_access": BEHIND_KEYS, "check_sender_a_access": BEHIND_KEYS,
    "check_helo_mx_access": BEHIND_KEYS, "check_helo_a_access": BEHIND_KEYS,
    "check_client_a_access": BEHIND_KEYS, "check_recipient_mx_access": BEHIND_KEYS,
}
SCALARS = {
    "reject_code": ["550", "451", "554"], "defer_code": ["451", "450"],
    "access_map_reject_code": ["550", "521"], "access_map_defer_code": ["451"],
    "maps_rbl_reject_code": ["451", "550"], "unknown_client_reject_code": ["550"],
    "unknown_address_reject_code": ["550"], "unknown_hostname_reject_code": ["550"],
    "invalid_hostname_reject_code": ["450", "550"], "non_fqdn_reject_code": ["550"],
    "multi_recipient_bounce_reject_code": ["450"], "relay_domains_reject_code": ["550"],
    "reject_tempfail_action": ["defer"], "unknown_address_tempfail_action": ["defer"],
    "smtpd_reject_unlisted_sender": ["yes"], "smtpd_reject_unlisted_recipient": ["no"],
    "smtpd_relay_before_recipient_restrictions": ["no"], "soft_bounce": ["yes"],
    "smtpd_helo_required": ["yes"], "smtpd_null_access_lookup_key": ["ok.test"],
    "parent_domain_matches_subdomains": ["relay_domains, mynetworks"],
    "unknown_local_recipient_reject_code": ["450"],
    "unknown_virtual_mailbox_reject_code": ["553"], "plaintext_reject_code": ["554"],
}
PLACES = {"client": HOST_KEYS, "helo": HELO_KEYS, "sender": MAIL_KEYS, "relay": MAIL_KEYS,
          "recipient": MAIL_KEYS}


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.classes = {}
        self.discards = False

    def chance(self, one_in):
        return self.random.randrange(one_in) == 0

    def action(self, depth):
        r = self.random
        kind = r.choice(["OK", "DUNNO", "REJECT", "REJECT", "DEFER", "DEFER_IF_PERMIT",
                         "DEFER_IF_REJECT", "code", "list", "WARN", "INFO", "PREPEND", "DISCARD",
                         "HOLD", "RELAY"])
        if kind == "code":
            return "%d %s%s" % (r.choice([450, 451, 550, 554, 559, 421, 521]), r.choice(STATUSES),
                                r.choice(WORDS))
        if kind in ("REJECT", "DEFER", "DEFER_IF_PERMIT", "DEFER_IF_REJECT"):
            status = r.choice(STATUSES)
            return kind + (" " + status + r.choice(WORDS) if status or self.chance(2) else "")
        if kind == "list":
            return self.items(r.randint(1, 3), depth + 1, only_plain=True)
        return {"PREPEND": "PREPEND X-A: b", "WARN": "WARN look"}.get(kind, kind)

    def table(self, keys, depth):
        r = self.random
        pairs = []
        for key in r.sample(keys, r.randint(1, min(4, len(keys)))):
            pairs.append("{%s=%s}" % (key, self.action(depth)))
        return "inline:{%s}" % ", ".join(pairs)

    def item(self, depth, only_plain=False):
        r = self.random
        if not only_plain and self.chance(2):
            name = r.choice(list(TABLES))
            return "%s %s" % (name, self.table(TABLES[name], depth))
        if not only_plain and self.chance(12):
            return "check_policy_service { inet:127.0.0.1:@POLICY@, {policy_context=%s} }" % (
                self.action(9))
        if self.classes and self.chance(8):
            return r.choice(list(self.classes))
        return r.choices(list(PLAIN), weights=list(PLAIN.values()))[0]

    def items(self, count, depth=0, only_plain=False):
        found = []
        for _ in range(count):
            prefix = "warn_if_reject " if self.chance(7) else ""
            found.append(prefix + self.item(depth, only_plain))
        return ", ".join(found)

    def lists(self):
        r = self.random
        for name, keys in PLACES.items():
            count = r.choice([0, 0, 1, 2, 3, 4])
            text = self.items(count) if count else ""
            if count and self.chance(6):
                text = self.table(keys, 0) + ", " + text
            if name == "relay":
                text = (text + ", " if text else "") + r.choice(
                    ["permit_mynetworks, reject_unauth_destination", "defer_unauth_destination",
                     "reject_unauth_destination"])
            if text:
                yield "smtpd_%s_restrictions" % name, text
        for name in ("data", "end_of_data"):
            if self.chance(3):
                yield "smtpd_%s_restrictions" % name, self.items(r.randint(1, 2))

    def dialogue(self):
        r = self.random
        helo, steps = r.choice(HELOS), []
        if helo is not None:
            steps.append("%s %s" % (r.choice("HHE"), helo))
        steps.append("M " + r.choice(SENDERS))
        steps += ["R " + rcpt for rcpt in r.sample(RCPTS, r.randint(1, 5))]
        if self.chance(3) and not self.discards:  # of that, Postfix makes this and that
            steps.append("VRFY " + r.choice(RCPTS))
        if self.chance(2):
            steps.append("D")
        if self.chance(4):
            steps += ["RSET", "M " + r.choice(SENDERS), "R " + r.choice(RCPTS)]
        return Dialogue("@%s raw %s" % (r.choice(CLIENTS), " | ".join(steps)))

    def setting(self, seed, dialogues):
        r = self.random
        setting = Setting("seed %d" % seed)
        for name in ("one", "Two")[:r.choice([0, 0, 1, 2])]:
            text = self.items(r.randint(1, 3))
            self.classes[name] = text
        if self.classes:
            setting.params["smtpd_restriction_classes"] = " ".join(self.classes)
            setting.params.update(self.classes)
        setting.params.update(self.lists())
        for name in r.sample(list(SCALARS), r.randint(0, 5)):
            setting.params[name] = r.choice(SCALARS[name])
        if self.chance(4):
            setting.params["smtpd_delay_reject"] = "no"
        self.discards = any("DISCARD" in value for value in setting.params.values())
        setting.dialogues = [self.dialogue() for _ in range(dialogues)]
        return setting


def setting(seed, dialogues=12):
    return Generator(seed).setting(seed, dialogues)
