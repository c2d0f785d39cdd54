"""Settings that are wrong, with the beginning of the line that says so."""

_NETWORKS = {
    (
        "server.forwarded_allow_ips.1: must be an address or a network without host bits, such as "
        "10.0.0.0/8"
    ): (
        "*",
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "",
    ),
    "server.forwarded_allow_ips: must not be all addresses": ("0.0.0.0/0", "::/0"),
}

PROBLEMS: list[tuple[str, str]] = [
    (
        "pacs: {urll: x}",
        "pacs.urll: unknown key; did you mean pacs.url? (known here: auth, ca_file, ",
    ),
    (
        "pac: {}",
        ("pac: unknown key; did you mean pacs? (known here: access, audit, capabilities, compat, "),
    ),
    (
        "tokens: {client: {client_id: x}}",
        "tokens.client.client_id: unknown key; it is for method client_secret_basic or ",
    ),
    (
        "patients: {identifiers: [{sistem: x, system: 'urn:y'}], mapping: ehr}",
        "patients.identifiers.0.sistem: unknown",
    ),
    (
        "pacs: {url: 'http://us:Zq7-hunter2-Xw@pacs/x'}",
        "pacs.url: must have no user, query or fragment",
    ),
    (
        "server: {cors_origins: ['*', 'https://a/']}",
        "server.cors_origins.1: must be * or scheme://host[:port]",
    ),
    *(
        (f"server: {{forwarded_allow_ips: ['10.0.0.1', {shown!r}]}}", problem)
        for problem, values in _NETWORKS.items()
        for shown in values
    ),
    ("server: {port: soon}", "server.port: must be a whole number"),
    ("server: {wado_uri: maybe}", "server.wado_uri: must be true or false"),
    ("limits: {pacs_timeout_seconds: 5s}", "limits.pacs_timeout_seconds: must be a number"),
    ("server: {port: yes}", "server.port: must be a number"),
    ("server: {port: 65536}", "server.port: must be less than or equal to 65535"),
    ("limits: {pacs_timeout_seconds: .inf}", "limits.pacs_timeout_seconds: must be"),
    ("limits: {pacs_timeout_seconds: 0}", "limits.pacs_timeout_seconds: must be greater than"),
    (
        "limits: {deferred_seconds: 20}",
        "limits: defer_after_seconds is longer than deferred_seconds",
    ),
    ("pacs: {dialect: othanc}", "pacs.dialect: must be 'generic', 'orthanc' or 'dcm4chee'"),
    (
        "pacs: {auth: {method: Zq7-hunter2-Xw}}",
        "pacs.auth.method: must be one of 'none', 'basic', 'bearer'",
    ),
    ("pacs: {auth: {username: us}}", "pacs.auth.method: is required"),
    ("pacs: {auth: Zq7-hunter2-Xw}", "pacs.auth: must be a mapping"),
    (
        "compatibility: {requires_access_token: true}",
        "compatibility: unknown key; did you mean compat? (known here: access, ",
    ),
    ("fhir:", "fhir: is empty: give it keys, or leave it out"),
    (
        "pacs.url: https://pacs/x",
        "pacs.url: unknown key; keys are nested: write pacs: {url: …} (known here: access, ",
    ),
    (
        "tokens: {client.client_secret: x}",
        (
            "tokens.client.client_secret: unknown key; keys are nested: "
            "write tokens: {client: {client_secret: …}} (known here: audience, "
        ),
    ),
    (
        "ehr: {issuer: 1}",
        "ehr.issuer: must be text, in quotes when it looks like a number or a date",
    ),
    ("server: {cors_origins: '*'}", "server.cors_origins: must be a list"),
    *(
        (
            f"server: {{public_url: 'https://h.example.org/{path}'}}",
            "server.public_url: must have a path of letters, digits and . _ ~ - alone",
        )
        for path in ("a%20b", "a/../b", "a//b", "/b", ".", "a;b", "a$b")
    ),
    *(
        (
            f"server: {{public_url: 'https://h.example.org/{path}'}}",
            "server.public_url: must have no path that begins as ours: /fhir is added to it",
        )
        for path in ("fhir", "fhir/", "wado-rs", "wado-uri/x", "capability/a")
    ),
    *(
        (
            f"server: {{forwarded_allow_ips: {written}}}",
            "server.forwarded_allow_ips: must not be all addresses",
        )
        for written in ("[128.0.0.0/1, 10.0.0.1, 0.0.0.0/1]", "['::/1', '8000::/1', 10.0.0.1]")
    ),
    *(
        (
            f"tokens: {{claims: {{scope_resources: {written}}}}}",
            "tokens.claims.scope_resources: must name ImagingStudy",
        )
        for written in ("[]", "[DiagnosticReport]")
    ),
    (
        "patients: {identifiers: [{system: 'http://mrn', issuer: ''}]}",
        "patients.identifiers.0.issuer: must have at least 1 character",
    ),
    (
        "fhir: {timezone: Mars/Olympus}",
        "fhir.timezone: is no IANA time zone such as Europe/Berlin",
    ),
    ("fhir: {timezone: Europe}", "fhir.timezone: is no IANA time zone such as Europe/Berlin"),
    ("pacs: {ca_file: /nowhere}", "pacs.ca_file: cannot be read: No such file or directory"),
    (
        "pacs: {auth: {method: basic, username: 'a:b', password: x}}",
        "pacs.auth.username: must have no colon",
    ),
    (
        "fhir: {catalog: {file: /tmp/catalog}}",
        "fhir.catalog.file needs fhir.catalog.store: sqlite; set that, or leave file out",
    ),
    (
        "{server: {workers: 2}, fhir: {catalog: {store: memory}}}",
        "fhir.catalog.store: memory works with one worker only (server.workers); leave it out",
    ),
    (
        "{server: {workers: auto}, fhir: {catalog: {store: memory}}}",
        "fhir.catalog.store: memory works with one worker only (server.workers); leave it out",
    ),
    ("server: {workers: 0}", "server.workers: must be auto or a number from 1 to 64"),
    ("fhir: {catalog: {store: postgresql}}", "fhir.catalog: store postgresql needs dsn_file"),
    ("audit: {sink: file}", "audit: sink file needs file, and file needs sink file"),
    ("audit: {file: audit.jsonl}", "audit: sink file needs file, and file needs sink file"),
    ("audit: {sink: fhir}", "audit: sink fhir needs repository.url and spool.folder"),
    ("audit: {spool: {folder: /spool}}", "audit: repository and spool are for sink fhir"),
    (
        "audit: {key_file: /nowhere}",
        "audit.key_file: cannot be read: No such file or directory",
    ),
    (
        "pacs: {generated_issuers: [ '**' ]}",
        "pacs.generated_issuers.0: must be text, with four letters or digits beside * and ?",
    ),
    (
        "pacs: {generated_issuers: ['A\\\\B']}",
        "pacs.generated_issuers.0: must be text, with four letters or digits beside * and ?",
    ),
    ("capabilities: {mode: token_bound}", "capabilities: mode token_bound needs keys_file"),
    ("capabilities: {mode: bearer}", "capabilities.mode: must be 'off' or 'token_bound'"),
    (
        "capabilities: {keys_file: /nowhere}",
        "capabilities.keys_file: cannot be read: No such file or directory",
    ),
    (
        "access: {backend_services: true, clients: {a: {patients: [Patient/1]}}}",
        "access.clients.a.patients.0: must be a FHIR",
    ),
    (
        "access: {backend_services: true, clients: {a: {group: x}}}",
        "access.clients.a.group: unknown key; did you mean access.clients.a.groups?",
    ),
    (
        "access: {rules: [{name: a, effect: exclude, study: {Modality: [CT]}}]}",
        "access.rules.0.study.Modality: unknown key (known here: 'AccessionNumber'",
    ),
    (
        "tokens: {client: {method: none, client_secret: x}}",
        "tokens.client.client_secret: unknown key; it is for method client_secret_basic or c",
    ),
    (
        "pacs: {auth: {method: none, username: x}}",
        "pacs.auth.username: unknown key; it is for method basic (known here: method)",
    ),
    ("fhir: {accession_system: 'not a uri'}", "fhir.accession_system: must be a URI, such as"),
    (
        "patients: {mapping: ehr, identifiers: [{system: MRN}]}",
        "patients.identifiers.0.system: must be a URI, such as urn:oid:1.2.3 or http://",
    ),
    ("tokens: {jwt: {algorithms: []}}", "tokens.jwt.algorithms: needs at least one"),
    ("access: {clients: {a: {}}}", "access: clients are for backend_services, which is off"),
    (
        "access: {rules: [{name: a, effect: hold}]}",
        "access.rules.0: effect hold needs hours, and hours needs effect",
    ),
    (
        "access: {rules: [{name: a, effect: hide}]}",
        "access.rules.0.effect: must be 'exclude', 'hold' or 'show'",
    ),
    (
        "access: {rules: [{name: a, effect: exclude, study: {StudyDate: ['2024']}}]}",
        "access.rules.0.study: StudyDate",
    ),
    (
        "access: {rules: [{name: a, effect: exclude, series: {}}]}",
        "access.rules.0.series: has no condition",
    ),
    ("tokens: {jwt: {algorithms: [none]}}", "tokens.jwt.algorithms.0: must be 'RS256', "),
    ("tokens: {jwt: {algorithms: [HS256]}}", "tokens.jwt.algorithms.0: must be 'RS256', "),
    ("tokens: {claims: {patient: []}}", "tokens.claims.patient: "),
    (
        "patients: {mapping: ehr}",
        "patients: mapping ehr needs at least one entry in identifiers",
    ),
    (
        "patients: {identifiers: [{system: 'urn:a'}]}",
        "patients: identifiers are for mapping ehr, but mapping is direct",
    ),
    (
        "patients: {mapping: ehr, identifiers: [{system: 'a:b'}, {system: 'a:b', issuer: c}]}",
        "patients: a system stands tw",
    ),
]
