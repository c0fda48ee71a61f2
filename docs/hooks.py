"""What the site needs beyond its plugins: maths as MathML, so that pages fetch no script, and a list of decisions."""

import re
from pathlib import Path

from latex2mathml.converter import convert

MATHS = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
RECORDS = re.compile(r"\d{3}-.*\.md")


def on_page_content(html, **_):
    """Turn TeX into MathML, which browsers show by themselves."""

    def mathml(match):
        tex = match[3].strip()
        for entity, character in ENTITIES.items():
            tex = tex.replace(entity, character)
        return convert(tex, display="block" if match[2] == "[" else "inline")

    return MATHS.sub(mathml, html)


def on_config(config):
    """Put every decision record into the navigation."""
    records = sorted(path for path in Path(config["docs_dir"], "adr").glob("*.md") if RECORDS.fullmatch(path.name))
    for entry in config["nav"]:
        if entry.get("Decisions") == "adr/index.md":
            entry["Decisions"] = ["adr/index.md", *({_title(path): f"adr/{path.name}"} for path in records)]
    return config


def on_page_markdown(markdown, page, config, **_):
    """List the decision records where their index asks for it."""
    if page.file.src_uri != "adr/index.md":
        return markdown
    records = sorted(path for path in Path(config["docs_dir"], "adr").glob("*.md") if RECORDS.fullmatch(path.name))
    return markdown + "\n".join(f"- [{_title(path)}]({path.name})" for path in records) + "\n"


def _title(path):
    first = path.read_text(encoding="utf-8").lstrip().splitlines()[0].lstrip("# ").strip()
    return first if first[:3].isdigit() else f"{path.name[:3]} {first}"
