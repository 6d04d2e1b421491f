"""Writes src/data/html_entities.inc: the named character references of HTML (html.spec.whatwg.org/entities.json), as Python's html.entities.html5 has them.

    python3 tests/reference/html_entities.py src/data/html_entities.inc
"""

import html.entities
import sys


def literal(text):
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\{b:03o}" for b in text.encode()) + '"'


def main():
    rows = sorted(html.entities.html5.items())
    with open(sys.argv[1], "w") as out:
        out.write("// Written by tests/reference/html_entities.py: name, UTF-8 of what it stands for; sorted by name.\n")
        line = ""
        for name, value in rows:
            entry = f"{{{literal(name)}, {literal(value)}}}, "
            if len(line) + len(entry) > 170:
                out.write(line.rstrip() + "\n")
                line = ""
            line += entry
        out.write(line.rstrip() + "\n")
    print(len(rows), "entities")


if __name__ == "__main__":
    main()
