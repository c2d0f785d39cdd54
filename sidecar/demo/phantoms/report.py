"""A report of one page as a PDF 1.4 (ISO 32000-1 7.5), of the standard fonts alone."""

from collections.abc import Sequence

_HEIGHT, _WIDTH, _MARGIN = 842, 595, 64
_LEADING = 17


def pdf(title: str, facts: Sequence[tuple[str, str]], paragraphs: Sequence[str]) -> bytes:
    """Return the document: a title, a table of ``facts``, and ``paragraphs``, all in ASCII."""
    y = _HEIGHT - 92
    drawn = [
        f"0.09 0.32 0.52 rg 0 {_HEIGHT - 44} {_WIDTH} 44 re f 0 g",
        _text(_MARGIN, y, 22, "F2", title),
    ]
    y -= 34
    for name, value in facts:
        drawn += [_text(_MARGIN, y, 10, "F2", name), _text(_MARGIN + 130, y, 10, "F1", value)]
        y -= _LEADING
    drawn.append(f"0.6 G {_MARGIN} {y} m {_WIDTH - _MARGIN} {y} l S 0 G")
    for paragraph in paragraphs:
        y -= 12
        for line in _lines(paragraph):
            y -= _LEADING
            drawn.append(_text(_MARGIN, y, 11, "F1", line))
    content = "\n".join(drawn).encode("ascii")
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> >>" % (_WIDTH, _HEIGHT),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
        ]
    )


def _text(x: int, y: int, size: int, font: str, text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size} Tf {x} {y} Td ({escaped}) Tj ET"


def _lines(paragraph: str, width: int = 82) -> list[str]:
    lines = [""]
    for word in paragraph.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def _file(objects: Sequence[bytes]) -> bytes:
    """Return the file: its objects, and the table of where each begins."""
    written, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return written + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, len(written))
    )
