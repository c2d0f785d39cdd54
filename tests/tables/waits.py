"""What bounds the wait for each lock, shared call and connection."""

# Where something holds others up, and what bounds that: a holder that waits for a peer, a disk or a
# thread has a limit.
LOCKS = {
    "check/catalog.py to_thread": "the command's own step: fhir/catalog/postgresql.py _CONNECT_SECONDS",
    "check/journey.py to_thread": "the command's own steps, one after another",
    "common/fetch.py to_thread": "reading of an answer that has come: no I/O, of at most limit_bytes",
    "common/slices.py Lock": "5 ms of work: nothing is waited for in it but a look at the network",
    "common/slices.py ThreadPoolExecutor": "rows of one study that have come: no I/O",
    "common/slices.py run_in_executor": "rows of one study that have come: no I/O",
    "fhir/catalog/catalog.py ThreadPoolExecutor": "the store's own: fhir/catalog/catalog.py",
    "fhir/catalog/catalog.py run_in_executor": "LOOK_SECONDS for a request; an exchange ends by _EXCHANGE_SECONDS",
    "fhir/list_snapshot.py Lock": "a look into a table, or a count: no I/O",
    "web/count_report.py Lock": "one count",
    "pacs/instance_patients.py Semaphore": "one request's own looks, each a query and a retrieval with their limits",
    "pacs/listing.py Lock": "the making of a list's snapshot, in slices: no peer, no disk",
    "pacs/response.py ThreadPoolExecutor": "rewriting of rows that have come: no I/O",
    "common/memory.py run_in_executor": "nobody waits for it",
    "pacs/response.py run_in_executor": "rewriting of rows that have come: no I/O",
    "pacs/studies.py FairQueue": "DETAILS_SECONDS of waiting; a holder has one query",
    "pacs/study_owners.py Semaphore": "a holder has one query, which ends with the patience or limits.pacs_timeout_seconds",
    "authorization/external_policy.py FairQueue": "limits.external_timeout_seconds of waiting and of holding",
    "server/shared_folder.py flock": "LOCK_NB: nobody waits",
    "authorization/limits.py FairQueue": "WAIT_SECONDS of waiting; a holder has one request, whose waits have an end",
    "web/stream_body.py to_thread": "writing of a ZIP's directory into memory: no I/O, some microseconds for each file",
    "audit/spool.py flock": "LOCK_NB: nobody waits",
    "audit/backlog.py flock": "LOCK_NB: nobody waits",
    "audit/delivery.py ThreadPoolExecutor": "the folder's own: requests do not wait for it",
    "audit/delivery.py run_in_executor": "the delivery alone waits for its disk",
    "telemetry/shared_metrics.py flock": "LOCK_NB: nobody waits",
    "telemetry/shared_values.py Lock": "the making of a value, or a store into memory: no peer",
    "telemetry/shared_values.py flock": "LOCK_NB: nobody waits",
    "web/admin.py to_thread": "reading of the workers' files, for one scrape",
    "tokens/introspection.py FairQueue": "limits.ehr_timeout_seconds of waiting; a holder has a few requests of as much each",
}
QUERY = "a query ends with the patience or limits.pacs_timeout_seconds"
EHR = "limits.ehr_timeout_seconds for each of a few requests"
# Calls that later requests join, and when they end; all end by common.single_flight.CALL_SECONDS.
CALLS = {
    "authorization/visible_studies_lookup.py LoadingCache": "nothing is loaded by it",
    "web/query_pages.py LoadingCache": "nothing is loaded by it",
    "common/loading_cache.py SingleFlight": "what its owner's line below says",
    "pacs/instance_patients.py LoadingCache": QUERY
    + "; so does a retrieval's first byte, and reading has its limit",
    "pacs/issuer_check.py LoadingCache": QUERY,
    "pacs/ownership.py LoadingCache": QUERY,
    "pacs/studies.py LoadingCache": "DETAILS_SECONDS of waiting; " + QUERY,
    "pacs/study_lists.py LoadingCache": QUERY,
    "patients/backend_clients.py LoadingCache": EHR,
    "patients/ehr_lookup.py LoadingCache": EHR,
    "authorization/external_policy.py LoadingCache": "limits.external_timeout_seconds, twice",
    "bootstrap/pacs.py DeferredRequests": "joined until limits.pacs_timeout_seconds of silence; limits.deferred_seconds in all",
    "tokens/cache.py LoadingCache": EHR,
    "ehr/credentials.py LoadingCache": EHR,
    "ehr/discovery.py LoadingCache": EHR,
    "tokens/jwks.py LoadingCache": EHR,
    "web/admin.py LoadingCache": "probes: the EHR's and the archive's limits",
}
# All that opens a connection, sends a request or waits for an answer, and what bounds it.
CONNECTIONS = {
    "check/scheme.py open_connection": "_SECONDS, in the command",
    "conformance/client.py ClientSession": "the command's own client",
    "conformance/client.py request": "the command's own client",
    "check/journey.py ClientSession": "the command's own client",
    "check/journey.py get": "the command's own client",
    "common/connector.py connect": "aiohttp's connector, within common/fetch.py and RetrieveClient._begin",
    "common/fetch.py request": "timeout_seconds for the whole request, name service and connection included",
    "fhir/catalog/postgresql.py connect": "_CONNECT_SECONDS; fhir/catalog/catalog.py LOOK_SECONDS with its name service",
    "fhir/catalog/sqlite.py connect": "no peer",
    "pacs/retrieve.py get": "limits.pacs_timeout_seconds to connect; its caller has the patience or limits.pacs_timeout_seconds",
    "bootstrap/context.py ClientSession": "its requests are those of common/fetch.py and of RetrieveClient._begin",
    "telemetry/certificates.py open_connection": "_CONNECT_SECONDS, in the background",
    "telemetry/span_export.py Session": "TIMEOUT_SECONDS of the exporter, in a thread of its own",
}
