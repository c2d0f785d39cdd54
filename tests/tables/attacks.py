"""The attack table. Each row: bytes on the wire, the statuses that may come back, and what the PACS
may see of it.

It grows: every new trick gets a row. ``Row.pacs`` is ``nothing`` (no request at all), ``queries``
(QIDO-RS by which ownership is established; never a retrieval) or ``retrieval`` (the request is
harmless and is served).
"""

from tests.attacks.raw import BEARER, request
from tests.attacks.row import FOREIGN, OWN, REFUSED, ROOT, Row, row
from tests.fakes.archive import INSTANCE, SERIES, STUDY
from tests.fakes.ehr import PATIENT, TOKEN
from tests.tables.capability_attacks import capabilities


def rows() -> list[Row]:
    """Return all rows."""
    made = [
        *_paths(),
        *capabilities(),
        *_hierarchy(),
        *_uids(),
        *_queries(),
        *_searches(),
        *_tokens(),
        *_http(),
        *_headers(),
    ]
    assert len({row.name for row in made}) == len(made)
    return made


def _paths() -> list[Row]:
    """The path that we check is not the path that the PACS serves."""
    below = {
        "encoded slash": f"{OWN}%2f..%2f{FOREIGN}",
        "encoded slash in the UID": f"{ROOT}/studies/{STUDY}%2F{FOREIGN}",
        "encoded dots": f"{OWN}/%2e%2e/{FOREIGN}",
        "encoded dots upper case": f"{OWN}/%2E%2E/{FOREIGN}",
        "half encoded dots": f"{OWN}/.%2e/{FOREIGN}",
        "dots": f"{OWN}/../{FOREIGN}",
        "dots at the end": f"{OWN}/..",
        "one dot": f"{ROOT}/./studies/{STUDY}",
        "double encoded dots": f"{OWN}/%252e%252e/{FOREIGN}",
        "double encoded slash": f"{OWN}%252f{FOREIGN}",
        "backslash": f"{OWN}\\..\\{FOREIGN}",
        "encoded backslash": f"{OWN}%5c..%5c{FOREIGN}",
        "dots with backslash": f"{OWN}/..%5c{FOREIGN}",
        "semicolon": f"{OWN}/..;/{FOREIGN}",
        "path parameter": f"{OWN};jsessionid=1",
        "encoded semicolon": f"{OWN}%3bx=1",
        "double slash": f"{ROOT}//studies/{STUDY}",
        "leading double slash": f"/{OWN}",
        "trailing slash": f"{OWN}/",
        "trailing dot": f"{OWN}.",
        "encoded NUL": f"{OWN}%00",
        "encoded NUL in the middle": f"{ROOT}/studies/1.2%00.3",
        "encoded line break": f"{OWN}%0d%0aX-Injected:%201",
        "encoded space": f"{ROOT}/studies/%20{STUDY}",
        "encoded tab": f"{OWN}%09",
        "overlong dot": f"{OWN}/%c0%ae%c0%ae/{FOREIGN}",
        "overlong slash": f"{OWN}%c0%af{FOREIGN}",
        "invalid UTF-8": f"{OWN}/%ff%fe",
        "full width dot": f"{OWN}/%ef%bc%8e%ef%bc%8e/{FOREIGN}",
        "full width digits": f"{ROOT}/studies/%ef%bc%91.%ef%bc%92",
        "upper case level": f"{ROOT}/STUDIES/{STUDY}",
        "mixed case operation": f"/fhir/Patient/{PATIENT}/$WADO-RS/studies/{STUDY}",
        "upper case resource": f"/fhir/PATIENT/{PATIENT}/$wado-rs/studies/{STUDY}",
        "encoded letters": f"{ROOT}/%73tudies/{STUDY}",
        "encoded question mark": f"{OWN}%3fPatientID=x",
        "encoded fragment": f"{OWN}%23/../x",
        "encoded percent": f"{OWN}%25",
        "a lone percent": f"{OWN}%",
        "a broken escape": f"{OWN}%zz",
        "escape of %u": f"{OWN}/%u002e%u002e/{FOREIGN}",
        "operation twice": f"{ROOT}/$wado-rs/studies/{STUDY}",
        "double encoded operation": f"/fhir/Patient/{PATIENT}/%2524wado-rs/studies/{STUDY}",
        "another patient's path below": f"/fhir/Patient/{PATIENT}/../p2/$wado-rs/studies/{FOREIGN}",
        "the PACS's own root": f"/dicom-web/studies/{STUDY}",
        "the PACS's REST": "/instances",
        "root below root": f"{ROOT}/dicom-web/studies/{STUDY}",
        "an absolute URL in the path": f"{ROOT}/http://pacs/studies/{STUDY}",
        "a long path": OWN + "/x" * 4_100,
    }
    found = [row(f"path: {name}", request(target), *REFUSED) for name, target in below.items()]
    return [
        *found,
        row("path: raw UTF-8", request(f"{ROOT}/studies/１.２"), *REFUSED),
        row("path: raw bytes", request(OWN.encode() + b"\xff\xfe"), *REFUSED),
        row("path: raw NUL", request(OWN.encode() + b"\x00"), *REFUSED),
        row("path: a space", request(f"{OWN} /x"), *REFUSED),
        row(
            "path: absolute form, another host",
            request(f"http://pacs:8042/dicom-web/studies/{FOREIGN}"),
            *REFUSED,
        ),
        row(
            "path: absolute form, our host",
            request(f"http://sidecar.example.org{OWN}"),
            200,
            pacs="retrieval",
        ),
        row(
            "path: absolute form, our host as a user",
            request(f"http://sidecar.example.org@pacs:8042{OWN}"),
            *REFUSED,
        ),
        row(
            "path: absolute form, our host and dots",
            request(f"http://sidecar.example.org{OWN}/../{FOREIGN}"),
            *REFUSED,
        ),
        row(
            "path: absolute form, our host, a foreign study",
            request(f"http://sidecar.example.org{ROOT}/studies/{FOREIGN}"),
            404,
            pacs="queries",
        ),
        row("path: authority form", request("pacs:8042", method="CONNECT"), *REFUSED),
        row("path: asterisk", request("*", method="OPTIONS"), *REFUSED),
        row(
            "path: no slash", request(f"fhir/Patient/{PATIENT}/$wado-rs/studies/{STUDY}"), *REFUSED
        ),
        row("path: empty", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", *REFUSED),
        row("path: a fragment", request(f"{OWN}#/../{FOREIGN}"), *REFUSED),
    ]


def _hierarchy() -> list[Row]:
    """Another patient's thing below an own one."""
    series, instance = f"{OWN}/series/{SERIES}", f"{OWN}/series/{SERIES}/instances/{INSTANCE}"
    made = []
    for suffix in ("", "/metadata", "/rendered", "/thumbnail", "/bulkdata", "/pixeldata"):
        made += [
            row(f"hierarchy: foreign study{suffix}", request(f"{ROOT}/studies/{FOREIGN}{suffix}"), 404, pacs="queries"),
            row(f"hierarchy: foreign series{suffix}", request(f"{OWN}/series/{FOREIGN}{suffix}"), 404, pacs="queries"),
            row(f"hierarchy: foreign instance{suffix}", request(f"{series}/instances/{FOREIGN}{suffix}"), 404,
                 pacs="queries"),
            row(f"hierarchy: own instance, foreign series{suffix}",
                 request(f"{OWN}/series/{FOREIGN}/instances/{INSTANCE}{suffix}"), 404, pacs="queries"),
        ]  # fmt: skip
    return [
        *made,
        row("hierarchy: foreign frames", request(f"{series}/instances/{FOREIGN}/frames/1"), 404, pacs="queries"),
        row("hierarchy: query below a foreign study", request(f"{ROOT}/studies/{FOREIGN}/series"), 404, pacs="queries"),
        row("hierarchy: study in the study", request(f"{OWN}/studies/{FOREIGN}"), 404),
        row("hierarchy: instance below the study", request(f"{OWN}/instances/{FOREIGN}"), 404),
        row("hierarchy: series without study", request(f"{ROOT}/series/{FOREIGN}"), 404),
        row("hierarchy: more below frames", request(f"{instance}/frames/1/../../{FOREIGN}"), 404),
        row("hierarchy: bulk data path with dots", request(f"{instance}/bulkdata/../../{FOREIGN}"), 404),
        row("hierarchy: bulk data path with a UID", request(f"{instance}/bulkdata/{FOREIGN}"), 404),
        row("hierarchy: another patient's root", request(f"/fhir/Patient/p2/$wado-rs/studies/{STUDY}"), 403),
        row("hierarchy: another patient's root, foreign study", request(f"/fhir/Patient/p2/$wado-rs/studies/{FOREIGN}"),
             403),
        *(
            row(f"hierarchy: WADO-URI, {what}", request("/wado-uri?requestType=WADO&" + "&".join(
                f"{name}={value}" for name, value in zip(("studyUID", "seriesUID", "objectUID"), uids, strict=True))),
                404, pacs="queries")
            for what, uids in {
                "foreign study": (FOREIGN, SERIES, INSTANCE), "foreign series": (STUDY, FOREIGN, INSTANCE),
                "foreign instance": (STUDY, SERIES, FOREIGN),
            }.items()
        ),
        *(
            row(f"hierarchy: WADO-URI, {more}", request(
                f"/wado-uri?requestType=WADO&studyUID={STUDY}&seriesUID={SERIES}&objectUID={INSTANCE}&{more}"), 400)
            for more in (f"studyUID={FOREIGN}", f"objectUID={FOREIGN}", "anonymize=yes", "rows=1%0d%0a", "region=0,0,1,1")
        ),
        row("hierarchy: two patients", request(f"/fhir/Patient/{PATIENT},p2/$wado-rs/studies/{STUDY}"), 403),
        row("hierarchy: patient in other case", request(f"/fhir/Patient/{PATIENT.upper()}/$wado-rs/studies/{STUDY}"), 403),
    ]  # fmt: skip


def _uids() -> list[Row]:
    """What is not one UID."""
    bad = {
        "wildcard": "*", "wildcard at the end": "1.2.*", "question mark": "1.2.%3f", "list": f"{STUDY},{FOREIGN}",
        "encoded list": f"{STUDY}%2c{FOREIGN}", "backslash list": f"{STUDY}%5c{FOREIGN}", "129 characters": "1." + "2" * 127,
        "a dot at the end": "1.2.", "an empty component": "1..2", "a leading dot": ".1.2", "dots": "..", "a dot": ".",
        "letters": "1.2.x", "minus": "1.-2", "a sign": "1.+2", "all": "all", "empty": "", "hex": "0x1.2",
        "tilde": f"{STUDY}~", "dollar": f"{STUDY}$",
    }  # fmt: skip
    made = []
    for name, uid in bad.items():
        made += [
            row(f"UID: {name} as study", request(f"{ROOT}/studies/{uid}"), 400, 404),
            row(f"UID: {name} as series", request(f"{OWN}/series/{uid}/metadata"), 400, 404),
            row(
                f"UID: {name} as instance",
                request(f"{OWN}/series/{SERIES}/instances/{uid}/frames/1"),
                400,
                404,
            ),
        ]
    frames = {"zero": "0", "none": "", "minus": "-1", "range": "1-3", "huge": "99999999999", "empty element": "1,,2",
              "encoded comma": "1%2c2", "float": "1.5", "many": ",".join(["1"] * 1_001)}  # fmt: skip
    below = f"{OWN}/series/{SERIES}/instances/{INSTANCE}/frames"
    return [
        *made,
        *(
            row(f"frames: {name}", request(f"{below}/{text}"), 400, 404)
            for name, text in frames.items()
        ),
    ]


def _queries() -> list[Row]:
    """The query that we check matches more than we thought. Those with ``queries`` go on with the
    patient forced.
    """
    forced = {
        "PatientID": "PatientID=p2", "wildcard": "PatientID=*", "question mark": "PatientID=%3f%3f",
        "list": f"PatientID={PATIENT}%5cp2", "tag": "00100020=p2", "both": f"PatientID={PATIENT}&00100020=p2",
        "twice": f"PatientID={PATIENT}&PatientID=p2", "empty": "PatientID=", "issuer": "IssuerOfPatientID=X",
        "other IDs": "OtherPatientIDs=p2", "in a sequence": "OtherPatientIDsSequence.PatientID=p2",
        "all fields": "includefield=all", "fuzzy": "fuzzymatching=true&PatientName=d", "encoded name": "Patient%49D=p2",
        "foreign study": f"StudyInstanceUID={FOREIGN}", "UID list": f"StudyInstanceUID={STUDY},{FOREIGN}",
        "huge offset": "offset=999999",
    }  # fmt: skip
    refused = {
        "lower case": "patientid=p2", "unknown": "Colour=blue", "limit -1": "limit=-1", "limit twice": "limit=1&limit=2",
        "limit hex": "limit=0x1", "offset float": "offset=1.5", "a semicolon": "limit=1;PatientID=p2",
        "NUL": "StudyDescription=%00", "line break": "StudyDescription=a%0d%0ab", "invalid UTF-8": "StudyDescription=%ff",
        "a broken escape": "StudyDescription=%zz", "an attribute twice": "Modality=CT&Modality=MR",
        "tag and keyword": "Modality=CT&00080060=MR", "plus sign tag": "+0100020=p2", "tag with a prefix": "x00100020=p2",
        "space before": "%20PatientID=p2", "brackets": "PatientID[]=p2", "unicode digits": "%D9%A0%D9%A0100020=p2",
        "deep": ".".join(["ReferencedSeriesSequence"] * 40) + "=1", "many": "&".join(f"Rows={n}" for n in range(300)),
        "fuzzy": "fuzzymatching=yes", "no name": "=p2",
    }  # fmt: skip
    return [
        *(
            row(f"QIDO: {name}", request(f"{ROOT}/studies?{query}"), 200, pacs="queries")
            for name, query in forced.items()
        ),
        *(
            row(f"QIDO refused: {name}", request(f"{ROOT}/studies?{query}"), 400)
            for name, query in refused.items()
        ),
        row(
            "QIDO: foreign series",
            request(f"{ROOT}/series?SeriesInstanceUID={FOREIGN}"),
            200,
            pacs="queries",
        ),
        row(
            "QIDO: foreign instance",
            request(f"{ROOT}/instances?SOPInstanceUID={FOREIGN}"),
            200,
            pacs="queries",
        ),
        row("QIDO: another patient's root", request("/fhir/Patient/p2/$wado-rs/studies"), 403),
        row(
            "QIDO: a body with a query",
            request(f"{ROOT}/studies", method="POST", body=b"PatientID=p2"),
            405,
        ),
    ]


def _searches() -> list[Row]:
    """FHIR searches that reach for another patient."""
    denied = {
        "another": "patient=p2", "both in one": f"patient={PATIENT},p2", "both": f"patient={PATIENT}&patient=p2",
        "subject beside": f"patient={PATIENT}&subject=p2", "another server": "patient=https://evil.example.org/Patient/p1",
        "versioned": f"patient=Patient/{PATIENT}/_history/1", "wildcard": "patient=*", "typed": "subject:Patient=p2",
        "group": "subject=Group/p1", "dots": f"patient=Patient/../{PATIENT}", "case": f"patient={PATIENT.upper()}",
        "encoded slash": "patient=Patient%2Fp2", "with a space": f"patient=%20{PATIENT}",
        "chained by identifier": "subject:Patient.identifier=x", "identifier modifier": "patient:identifier=x|1",
        "own and foreign identifier": f"patient.identifier={PATIENT},p2", "identifier of a system": f"patient.identifier=x|{PATIENT}",
        "identifier with a wildcard": "patient.identifier=*", "identifier beside": f"patient={PATIENT}&subject.identifier=p2",
    }  # fmt: skip
    refused = {
        "empty": "patient=", "chained": "patient.name=x", "empty identifier": "patient.identifier=x|",
        "not": f"patient:not={PATIENT}", "_filter": "_filter=patient%20eq%20p2",
        "_query": "_query=everything", "a made-up cursor": "_after=AAAA", "_list": "_list=x", "summary": "_summary=x",
        "_has in a total": "_has:Observation:patient:code=1&_count=0", "order of another": "basedon=ServiceRequest/p2",
        "count": "_count=-1", "date": "started=ge2020-13-45", "NUL": "identifier=%00",
        "line break": "identifier=a%0d%0aX-Injected:1",
    }  # fmt: skip
    # What is forgiven, and what is true of another patient's study as well: the token's own alone.
    forgiven = {
        "missing": "subject:missing=true", "not missing": "patient:missing=false", "_has": "_has:Observation:patient:code=1",
        "_has of another": "_has:Observation:subject:patient=p2", "_include iterate": "_include:iterate=ImagingStudy:subject",
        "_include subject": "_include=ImagingStudy:subject", "_revinclude": "_revinclude=Observation:subject",
        "order": "_sort=patient", "text": "identifier:text=p2", "not the own": f"identifier:not={STUDY}",
        "not its instance": f"instance:not={INSTANCE}", "not its id": f"_id:not={STUDY}", "foreign": f"_id={FOREIGN}",
        "an order number": "basedon:identifier=x", "no referrer": "referrer:missing=true",
    }  # fmt: skip
    search = "/fhir/ImagingStudy"
    form = "Content-Type: application/x-www-form-urlencoded"
    return [
        *(row(f"search: {name}", request(f"{search}?{query}"), 403) for name, query in denied.items()),
        *(row(f"search refused: {name}", request(f"{search}?{query}"), 400) for name, query in refused.items()),
        *(row(f"search forgiven: {name}", request(f"{search}?{query}"), 200, pacs="queries")
          for name, query in forgiven.items()),
        row("search: body and query disagree",
             request(f"{search}/_search?patient={PATIENT}", form, method="POST", body=b"patient=p2"), 403),
        row("search: query and body disagree",
             request(f"{search}/_search?patient=p2", form, method="POST", body=f"patient={PATIENT}".encode()), 403),
        row("search: a JSON body", request(f"{search}/_search", "Content-Type: application/json", method="POST",
                                            body=b'{"patient": "p2"}'), 415),
        row("search: another charset", request(f"{search}/_search", form, method="POST", body=b"patient=\xff"), 400),
        row("search: a large body", request(f"{search}/_search", form, method="POST", body=b"a=" + b"x" * 200_000), 413),
        row("search: compartment of another", request("/fhir/Patient/p2/ImagingStudy"), 403),
        row("search: by _search", request("/fhir/Patient/p2/ImagingStudy/_search"), 403),
        row("search: by POST", request("/fhir/Patient/p2/ImagingStudy/_search", form, method="POST",
                                       body=f"patient={PATIENT}".encode()), 403),
        row("search: compartment and parameter", request(f"/fhir/Patient/{PATIENT}/ImagingStudy?patient=p2"), 403),
        row("read: foreign study", request(f"/fhir/ImagingStudy/{FOREIGN}"), 404, pacs="queries"),
        row("read: made-up id", request("/fhir/ImagingStudy/nothing"), 404),
        row("read: another Endpoint", request("/fhir/Endpoint/p2"), 404),
        row("read: everything", request("/fhir/Patient/p1/$everything"), 404),
        row("read: history", request(f"/fhir/ImagingStudy/{STUDY}/_history/1"), 404),
    ]  # fmt: skip


def _tokens() -> list[Row]:
    """Credentials that are not exactly one bearer token in the Authorization header."""
    bad: dict[str, list[str | bytes]] = {
        "two headers": [BEARER, "Authorization: Bearer other"],
        "the same twice": [BEARER, BEARER],
        "a list": [f"{BEARER}, Bearer other"],
        "a list without scheme": [f"{BEARER},other"],
        "basic": ["Authorization: Basic cDE6eA=="],
        "no token": ["Authorization: Bearer"],
        "only the token": [f"Authorization: {TOKEN}"],
        "quoted": [f'Authorization: Bearer "{TOKEN}"'],
        "parameters": [f"Authorization: Bearer {TOKEN}; realm=x"],
        "a NUL": [b"Authorization: Bearer " + TOKEN.encode() + b"\x00"],
        "not ASCII": [f"Authorization: Bearer {TOKEN}é"],
        "DPoP scheme": [f"Authorization: DPoP {TOKEN}"],
        "100 KB": ["Authorization: Bearer " + "x" * 100_000],
        "9 KB": ["Authorization: Bearer " + "x" * 9_000],
        "another header": [f"X-Authorization: Bearer {TOKEN}"],
        "proxy header": [f"Proxy-Authorization: Bearer {TOKEN}"],
        "a cookie": [f"Cookie: access_token={TOKEN}"],
        "folded": [f"Authorization: Bearer\r\n {TOKEN}"],
    }  # fmt: skip
    return [
        *(row(f"token: {name}", request(OWN, *lines, token=False), 400, 401, 431) for name, lines in bad.items()),
        row("token: none", request(OWN, token=False), 401),
        row("token: in the query", request(f"{OWN}?access_token={TOKEN}", token=False), 401),
        row("token: in the body", request("/fhir/ImagingStudy/_search", "Content-Type: application/x-www-form-urlencoded",
                                           method="POST", body=f"access_token={TOKEN}".encode(), token=False), 401),
        row("token: lower-case scheme", request(OWN, f"authorization: bearer {TOKEN}", token=False), 200, pacs="retrieval"),
    ]  # fmt: skip


def _http() -> list[Row]:
    """Request smuggling and framing games: one request, or none."""
    smuggled = f"GET {ROOT}/studies/{FOREIGN} HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n\r\n".encode()
    chunked = b"0\r\n\r\n" + smuggled

    def post(*lines: str, body: bytes) -> bytes:
        head = ["POST /fhir/ImagingStudy/_search HTTP/1.1", "Host: x", BEARER,
                "Content-Type: application/x-www-form-urlencoded", *lines]  # fmt: skip
        return "\r\n".join([*head, "", ""]).encode() + body

    def chunks(trailer: bytes, *, method: str) -> bytes:
        target = "/fhir/ImagingStudy/_search" if method == "POST" else OWN
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: x\r\n{BEARER}\r\nTransfer-Encoding: chunked\r\n"
        )
        form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        return (
            (head + form).encode()
            + b"3\r\na=b\r\n0\r\n"
            + trailer
            + b"\r\n"
            + request(OWN, token=False)
        )

    return [
        row("HTTP: CL.TE", post(f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked", body=chunked), *REFUSED),
        row("HTTP: TE.TE", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=chunked), *REFUSED),
        row("HTTP: TE with a list", post("Transfer-Encoding: chunked, identity", body=chunked), *REFUSED),
        row("HTTP: TE with a tab", post("Transfer-Encoding:\tchunked", "Content-Length: 5", body=chunked), *REFUSED),
        row("HTTP: TE misspelt", post("Transfer-Encoding: xchunked", body=chunked), *REFUSED),
        row("HTTP: space before the colon", post("Transfer-Encoding : chunked", body=chunked), *REFUSED),
        row("HTTP: CL twice", post("Content-Length: 0", "Content-Length: 5", body=b"a=b&c"), *REFUSED),
        row("HTTP: CL list", post("Content-Length: 0, 5", body=b"a=b&c"), *REFUSED),
        row("HTTP: CL with a sign", post("Content-Length: +5", body=b"a=b&c"), *REFUSED),
        row("HTTP: CL negative", post("Content-Length: -1", body=b""), *REFUSED),
        row("HTTP: CL hex", post("Content-Length: 0x5", body=b"a=b&c"), *REFUSED),
        row("HTTP: chunk size junk", post("Transfer-Encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"), *REFUSED),
        row("HTTP: folded header", request(OWN, "X-A: b\r\n\tc"), *REFUSED),
        row("HTTP: bare CR in a header", request(OWN, b"X-A: b\rX-B: c"), *REFUSED),
        row("HTTP: NUL in a header", request(OWN, b"X-A: b\x00c"), *REFUSED),
        row("HTTP: a header without colon", request(OWN, "X-A"), *REFUSED),
        row("HTTP: an empty header name", request(OWN, ": x"), *REFUSED),
        row("HTTP: a space in a header name", request(OWN, "X A: b"), *REFUSED),
        row("HTTP: 64 KB of headers", request(OWN, "X-A: " + "x" * 65_536), *REFUSED),
        row("HTTP: 10,000 headers", request(OWN, *(f"X-{n}: y" for n in range(10_000))), *REFUSED),
        row("HTTP: 0.9", f"GET {OWN}\r\n\r\n".encode(), *REFUSED),
        row("HTTP: 2.0 in text", request(OWN, version="HTTP/2.0"), *REFUSED),
        row("HTTP: 1.2", request(OWN, version="HTTP/1.9"), *REFUSED),
        row("HTTP: lower-case method", request(OWN, method="get"), *REFUSED),
        row("HTTP: junk", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", *REFUSED),
        row("HTTP: TRACE", request(OWN, method="TRACE"), *REFUSED),
        row("HTTP: PROPFIND", request(OWN, method="PROPFIND"), *REFUSED),
        row("HTTP: STOW", request(f"{ROOT}/studies", method="POST", body=b"x"), 405),
        row("HTTP: DELETE", request(OWN, method="DELETE"), 405),
        row("HTTP: PUT", request(OWN, method="PUT", body=b"x"), 405),
        row("HTTP: an unknown method", request(OWN, method="FETCH"), *REFUSED),
        row("HTTP: method override", request(OWN, "X-HTTP-Method-Override: DELETE"), 200, pacs="retrieval"),
        row("HTTP: GET with a body", request(OWN, body=b"x"), 400),
        row("HTTP: GET in chunks", chunks(b"", method="GET"), 400),
        row("HTTP: GET in chunks with a trailer", chunks(b"Authorization: Bearer other\r\n", method="GET"), 400),
        row("HTTP: a search in chunks, then another request", chunks(b"", method="POST"), 200, pacs="queries"),
        row("HTTP: a search with a trailer, then another request",
            chunks(f"{BEARER}\r\n".encode(), method="POST"), 200, pacs="queries"),
        row("HTTP: HEAD with a body", request(OWN, method="HEAD", body=b"x"), 400),
        row("HTTP: OPTIONS with a body", request(OWN, method="OPTIONS", body=b"x"), 400),
        row("HTTP: DELETE with a body", request(OWN, method="DELETE", body=b"x"), 400),
        row("HTTP: two codings", post("Transfer-Encoding: gzip, chunked", body=chunked), 400),
        row("HTTP: chunked in HTTP/1.0", post("Transfer-Encoding: chunked", body=chunked).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
            *REFUSED),
        row("HTTP: a request behind h2c", request(OWN, "Connection: Upgrade", "Upgrade: h2c", token=False).replace(
            b"Connection: close\r\n", b"") + smuggled, 401),
        row("HTTP: compressed body", request("/fhir/ImagingStudy/_search", "Content-Encoding: gzip",
             "Content-Type: application/x-www-form-urlencoded", method="POST", body=b"\x1f\x8b" + b"\x00" * 50), *REFUSED),
    ]  # fmt: skip


def _headers() -> list[Row]:
    """Headers that must have no effect: the request is served as if they were not there."""
    ignored = {
        "another Host": ["Host: evil.example.org"],
        "Forwarded": ["Forwarded: host=evil.example.org;proto=http;for=1.2.3.4"],
        "X-Forwarded-Host": ["X-Forwarded-Host: evil.example.org", "X-Forwarded-Proto: ftp"],
        "X-Original-URL": [f"X-Original-URL: /fhir/Patient/p2/$wado-rs/studies/{FOREIGN}"],
        "X-Rewrite-URL": [f"X-Rewrite-URL: /studies/{FOREIGN}"],
        "Connection names Authorization": ["Connection: Authorization, X-Request-Id"],
        "Upgrade": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        "Expect": ["Expect: 100-continue"],
        "X-Request-Id": ["X-Request-Id: injected"],
        "a trace": [f"traceparent: 00-{'ab' * 16}-{'cd' * 8}-01", "tracestate: evil=1", "baggage: evil=1"],
        "a range": ["Range: bytes=0-10"],
        "many ranges": ["Range: bytes=" + ",".join(f"{n}-{n}" for n in range(600))],
        "an origin with credentials": ["Origin: https://evil.example.org", "Cookie: a=b"],
    }  # fmt: skip
    return [
        row(f"header: {name}", request(OWN, *lines, host=None if name == "another Host" else "x"), 200, 417,
             pacs="retrieval")
        for name, lines in ignored.items()
    ]  # fmt: skip
