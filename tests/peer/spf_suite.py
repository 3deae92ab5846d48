"""Turns the openspf.org test suite (YAML) into the cases of tests/unit/spf_world.h."""
import yaml


def quote(text):
    return '"' + "".join(c if 32 <= ord(c) < 127 and c not in '"\\' else
                         "".join("\\x%02x" % b for b in c.encode())
                         for c in text) + '"'


def txt(value):
    return " ".join(quote(part) for part in ([value] if isinstance(value, str) else value))


def records(name, entries):
    """The lines of one name. SPF records stand for TXT ones, unless there are TXT ones too."""
    has_txt = any(isinstance(entry, dict) and "TXT" in entry for entry in entries)
    name = name.replace(" ", "\\x20")
    for entry in entries:
        if entry == "TIMEOUT":
            yield "%s FAIL" % name
            continue
        (kind, value), = entry.items()
        if kind == "SPF":
            kind = "-" if has_txt else "TXT"
        if kind == "-" or value == "NONE":
            continue
        if value == "TIMEOUT":
            yield "%s FAIL %s" % (name, kind)
        elif kind == "TXT":
            yield "%s TXT %s" % (name, txt(value))
        elif kind == "MX":
            yield "%s MX %d %s" % (name, value[0], value[1] or ".")
        else:
            yield "%s %s %s" % (name, kind, value)


def case(title, test):
    result = test["result"]
    words = result if isinstance(result, str) else " ".join(result)
    line = "case %s | %s | %s | %s | %s" % (title, test["host"], test["helo"],
                                            test["mailfrom"], words)
    explanation = test.get("explanation")
    if explanation is not None:
        line += " | " + ("-" if explanation == "DEFAULT" else explanation)
    return line


def convert(text):
    """Lines of cases, and how many cases there are."""
    lines, count = [], 0
    for document in yaml.safe_load_all(text):
        lines.append("scenario " + document["description"])
        for name, entries in document["zonedata"].items():
            lines += records(name, entries)
        for title, test in document["tests"].items():
            lines.append(case(title, test))
            count += 1
    return lines, count

