"""The results as bars, without a library."""

from html import escape

COLOURS = {"ours": "#2563eb", "part": "#93c5fd", "peer": "#9ca3af", "floor": "#d1d5db"}
WIDTH, LABEL, BAR, GAP = 820, 260, 16, 5


def svg(results):
    body, y = [], 20
    chosen = [cell for cell in results["cells"] if cell["rows"] and cell.get("plot", cell["name"] == "one container")]
    for cell in chosen:
        title = {"start": "Starting: ", "extract": "Extracting: "}[cell["job"]] + cell["name"]
        body.append(text(10, y + 4, title, "bold"))
        y += 16
        most = max(row["median_ms"] for row in cell["rows"])
        for row in sorted(cell["rows"], key=lambda row: row["median_ms"]):
            length = max(1, (WIDTH - LABEL - 100) * row["median_ms"] / most)
            body.append(text(LABEL - 8, y + BAR - 4, row["name"], anchor="end"))
            body.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[row["role"]]}"/>')
            body.append(text(LABEL + length + 6, y + BAR - 4, label(row["median_ms"])))
            y += BAR + GAP
        y += 22
    machines = [where["machine"] for where in results["where"].values()]
    if machines:
        kernels = ", ".join(dict.fromkeys(machine["kernel"] for machine in machines))
        body.append(text(10, y, f"medians; {machines[0]['processors']} processors, {machines[0]['processor']}, Linux {kernels}", "small"))
    style = ("text{font:12px sans-serif;fill:#111}.bold{font-weight:bold}.small{font-size:10px;fill:#555}"
             "@media(prefers-color-scheme:dark){text{fill:#eee}.small{fill:#aaa}}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 14}" viewBox="0 0 {WIDTH} {y + 14}" role="img">\n'
            f"<title>chainroot's benchmark</title>\n<style>{style}</style>\n" + "\n".join(body) + "\n</svg>\n")


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def label(ms):
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"
