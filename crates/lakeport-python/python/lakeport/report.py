"""What a run did: a dict, shown as a page in a notebook."""

from html import escape

STYLE = """
<style scoped>
.lakeport { font-size: 13px; max-width: 60em; }
.lakeport .head { font-size: 15px; margin: 0 0 .4em; }
.lakeport table { border-collapse: collapse; margin: .4em 0; }
.lakeport th, .lakeport td { text-align: left; padding: .15em .8em .15em 0; border: 0; vertical-align: top; }
.lakeport .n { text-align: right; font-variant-numeric: tabular-nums; }
.lakeport .dim { opacity: .65; }
.lakeport .warn { color: #b45309; }
</style>
"""
# The verdicts that leave every value as it was.
KEPT = ("exact", "widened", "checked")


class Report(dict):
    """A run's report, the same as ``run.json``; a notebook shows it as a page."""

    @property
    def rows(self):
        """Rows of all tables."""
        return sum(table["rows"] for table in self.get("tables", []))

    def __repr__(self):
        return f"<{self._head()}>"

    def _head(self):
        to = (self.get("plan") or {}).get("to", "")
        what = "published" if self.get("receipt") else "written"
        return f"{self.rows:,} rows {what} to {to} in {self.get('seconds', 0):.1f} s"

    def _repr_html_(self):
        receipt = self.get("receipt") or {}
        head = escape(self._head())
        if str(receipt.get("url") or "").startswith(("http://", "https://")):
            head += f' · <a href="{escape(receipt["url"], quote=True)}" target="_blank" rel="noopener">open</a>'
        parts = [STYLE, f'<div class="lakeport"><p class="head"><b>✓</b> {head}</p>']
        for table in (self.get("plan") or {}).get("tables", []):
            parts.append(self._columns(table))
        facts = [("verified", line) for line in self.get("verified", [])]
        facts += [("note", line) for line in receipt.get("notes", [])]
        facts += [("repeated", line) for line in receipt.get("retries", [])]
        if self.get("file"):
            facts.append(("file", f"{self['file']['bytes']:,} bytes of {self['file']['format']}"))
        facts.append(("time", " · ".join(f"{p['name']} {p['seconds']:.1f} s" for p in self.get("phases", []))))
        facts.append(("run", f"{self.get('id', '')} · Lakeport {self.get('lakeport', '')}"))
        cells = "".join(f'<tr><td class="dim">{escape(k)}</td><td>{escape(str(v))}</td></tr>' for k, v in facts if v)
        parts.append(f"<table>{cells}</table></div>")
        return "".join(parts)

    def _columns(self, table):
        changed = {}
        for done in self.get("tables", []):
            if done["table"] == table["table"]:
                changed = done.get("changed_values", {})
        lines = []
        for column in table["columns"]:
            name, verdict = column["name"], column.get("verdict", "")
            kind = "" if verdict in KEPT else ' class="warn"'
            told = ": ".join(filter(None, [verdict, column.get("why")]))
            lines.append(
                f"<tr><td>{escape(name)}</td><td>{escape(column['source_type'])}</td><td>{escape(column['target_type'])}</td>"
                f'<td{kind}>{escape(told)}</td><td class="n">{changed.get(name, 0):,}</td></tr>'
            )
        titles = '<tr class="dim"><th>column</th><th>from</th><th>to</th><th>kept</th><th class="n">changed</th></tr>'
        more = [f"left out: {name}" for name in table.get("dropped", [])]
        return f"<table>{titles}{''.join(lines)}</table>" + "".join(f'<p class="dim">{escape(m)}</p>' for m in more)
