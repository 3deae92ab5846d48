"""The test suite of RFC 7208 that Debian ships with pyspf, and that of RFC 4408: all results and
explanations. The suite's zones become facts (tests/unit/spf_world.h); no DNS is asked."""
import gzip
import os
import pathlib
import re
import subprocess
import unittest

import spf_suite
from harness import BINARY, SANITIZER, scratch

SUITES = pathlib.Path("/usr/share/doc/python3-spf")
UNIT_SPF = pathlib.Path(BINARY).parent / "tests" / "unit_spf"


@unittest.skipUnless(SUITES.is_dir() and UNIT_SPF.exists(), "python3-spf is not installed")
class Suite(unittest.TestCase):
    def run_suite(self, name):
        """How many cases there are; all of them must come out as the suite says."""
        with gzip.open(SUITES / (name + "-tests.yml.gz"), "rt", encoding="utf-8") as file:
            lines, count = spf_suite.convert(file.read())
        cases = self.enterContext(scratch()) / "cases.txt"
        cases.write_text("\n".join(lines) + "\n")
        done = subprocess.run([UNIT_SPF, "-j1", "--filter", "spf/cases"], capture_output=True,
                              env=dict(os.environ, SPF_CASES=str(cases)), timeout=100)
        output = done.stdout + done.stderr
        self.assertIsNone(SANITIZER.search(output), output.decode()[-3000:])
        self.assertEqual(done.returncode, 0, output.decode()[-3000:])
        good, run = re.search(rb"spf: (\d+) of (\d+) cases", output).groups()
        self.assertEqual((int(good), int(run)), (count, count))
        return count

    def test_rfc_7208(self):
        self.assertGreater(self.run_suite("rfc7208"), 200)

    def test_rfc_4408(self):
        self.assertGreater(self.run_suite("rfc4408"), 180)


if __name__ == "__main__":
    unittest.main(verbosity=2)
