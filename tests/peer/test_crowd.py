"""Strangers behind one private address are not trusted, whatever mynetworks says."""
import unittest

from harness import Postern

SETTINGS = {
    "smtpd_authorized_xclient_hosts": "127.0.0.1", "smtpd_peername_lookup": "no",
    "mynetworks": "172.16.0.0/12", "default_transport": "discard:",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
}


class Crowd(unittest.TestCase):
    def relay(self, server, address, helo):
        """The code of a RCPT elsewhere."""
        with server.connect() as smtp:
            return smtp.commands("EHLO first.test", "XCLIENT ADDR=%s" % address, "EHLO " + helo,
                                 "MAIL FROM:<a@client.test>", "RCPT TO:<x@elsewhere.test>")[-1].code

    def test_the_relay_closes(self):
        server = self.enterContext(Postern(SETTINGS))
        codes = [self.relay(server, "172.17.0.1", "mx%d.test" % i) for i in range(30)]
        self.assertEqual((codes[0], codes[-1]), (250, 554))
        self.assertEqual(codes, sorted(codes))
        self.assertEqual(server.log().count("all clients come from 172.17.0.1"), 1)
        self.assertEqual(self.relay(server, "172.17.0.2", "mx.test"), 250)  # a client of its own
        self.assertEqual(self.relay(server, "172.17.0.1", "mx.test"), 250)  # so it is none either

    def test_a_relay_of_our_own_stays_trusted(self):
        server = self.enterContext(Postern(SETTINGS))
        for _ in range(40):
            self.assertEqual(self.relay(server, "172.17.0.1", "smarthost.test"), 250)


if __name__ == "__main__":
    unittest.main(verbosity=2)
