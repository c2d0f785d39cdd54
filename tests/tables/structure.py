"""Servers outside of tests/fakes/, each with its reason; none of them is a further fake archive or EHR."""

RAW = "bytes on a socket: what no HTTP library sends"
OURS = "an application of its own behind our listener: the listener is its subject"
ONE = "one answer of a server that is neither an archive nor an EHR"
RELAY = "in front of a real archive: passes on what it is asked"
REAL = "what a real server beside it needs"

SERVES_ELSEWHERE = {
    "attacks/test_table.py test_slow_headers_are_not_waited_for": OURS,
    "check/test_certificates.py test_an_archive_whose_certificate_is_not_trusted": RAW,
    "check/test_scheme.py tls_port": RAW,
    "check/test_scheme.py test_a_shared_token_cache": "a Valkey or Redis",
    "check/test_audit.py test_the_audit_repository": ONE,
    "check/test_audit.py test_an_audit_repository_that_validates": ONE,
    "common/peer.py serving": "a peer of the client in common/, which knows neither",
    "common/test_connector.py asked": RAW,
    "common/test_connector.py behind": RAW,
    "common/test_connector.py test_what_is_late_behind_an_answer_without_a_body_is_nobodys": RAW,
    "common/test_fetch.py test_a_peer_that_does_not_speak_well": RAW,
    "compose/test_journey.py test_with_keycloak_and_a_token_as_the_readme_has_it": REAL,
    "conformance/small_server.py SmallServer": "a sidecar, whose client the kit is",
    "conformance/test_bounds.py _answered": "a sidecar, whose client the kit is",
    "conformance/test_bounds.py elsewhere": "a sidecar, whose client the kit is",
    "conformance/test_faults.py test_a_junk_token_that_opens_everything": "a sidecar, whose client the kit is",
    "dcm4chee/archive.py create_dcm4chee": "dcm4chee as it was measured: an emulation with tests of its own",
    "journey/test_rolling_restart.py Balancer": "a load balancer",
    "pacs/test_client_open.py dying": RAW,
    "pacs/test_client_open.py test_the_end_of_a_chunk_is_no_end": RAW,
    "pacs/test_response.py opened": RAW,
    "real/test_catalog_silence.py test_a_network_that_swallows_everything": RAW,
    "real/kubernetes/site.py Site": ONE,
    "real/test_orthanc_accept.py Slide": RELAY,
    "real/test_proxies.py test_the_refusal_of_a_connection_reaches_the_app": OURS,
    "real/test_tiny_pacs.py Forgetful": RELAY,
    "server/test_draining.py Kept": OURS,
    "server/test_draining.py test_a_request_that_is_on_its_way_is_answered": OURS,
    "server/test_draining.py test_the_last_answer_of_a_connection_says_so": OURS,
    "server/test_shared_site.py _listener": OURS,
    "telemetry/collector.py Collector": "a collector of traces",
    "audit/fhir_repository.py FhirRepository": "a repository of AuditEvents",
    "audit/test_delivery_model.py Deliveries": "a repository of AuditEvents",
    "telemetry/test_certificates.py test_a_server_that_says_nothing_does_not_hold_us_up": RAW,
    "telemetry/test_certificates.py test_of_peers_and_of_our_own": RAW,
    "telemetry/test_tracing.py test_a_collector_with_a_certificate_of_its_own": ONE,
    "test_reload.py test_there_and_back_again_the_newest_delivers": ONE,
    "test_silent_peers.py silent": RAW,
    "tokens/test_mutual_tls.py test_the_certificate_is_shown": RAW,
    "tokens/test_redis_client.py Scripted": "a Valkey or Redis",
    "web/test_connection.py echo": OURS,
    "web/test_connection_limit.py slow_app": OURS,
    "web/test_http_forms.py test_other_applications_have_no_cors": OURS,
    "web/test_middleware.py world": OURS,
    "web/test_pieces.py test_all_of_it_comes": OURS,
    "web/test_send_buffers.py application": OURS,
    "web/test_write_pieces.py fetch": OURS,
    "web/test_write_pieces.py test_a_slow_client_is_waited_for_and_one_that_left_is_noticed": OURS,
}
"""File and outermost function or class -> reason."""
