"""Rules of the specification, each taken out by one change of a text: number, file, texts, test.

The test is one that docs/conformance.md names for that number, and it must fail then. Tests of real
servers are not among them: what they are for, the other tests of their rows cannot see.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """``old`` stands once in ``file`` (below ``sidecar/``); ``new`` is there in its place."""

    number: int
    file: str
    old: str
    new: str
    test: str

    @property
    def name(self) -> str:
        """What a run calls it."""
        return f"SIA-{self.number} {self.file}: {self.test}"


_DECISION = "access/decision.py"
_OTHER_PATIENT = "(patient not in (None, token.patient), Reason.OTHER_PATIENT)"
_CAPABILITY_TESTS = "tests/authorization/test_capability_urls.py"
_SEARCH_TESTS = "tests/journey/test_search.py"
_STATEMENT = "fhir/capability_statement.py"
_STATEMENT_TESTS = "tests/fhir/test_capability_statement.py"

MUTATIONS = [
    Mutation(
        1,
        _STATEMENT,
        '"associated_endpoints": [endpoint]',
        '"associated_endpoints": [{}]',
        "tests/test_cli.py::test_what_the_ehr_says_of_us",
    ),
    Mutation(
        1,
        "demo/ehr/app.py",
        '["smart-imaging-access", APP_LAUNCH]',
        "[APP_LAUNCH]",
        f"{_SEARCH_TESTS}::test_an_app_finds_us_through_the_ehr",
    ),
    Mutation(
        2,
        _STATEMENT,
        'methods_supported"] = ["private_key_jwt"]',
        'methods_supported"] = ["client_secret_basic"]',
        f"{_STATEMENT_TESTS}::test_what_is_switched_on_is_what_is_offered",
    ),
    Mutation(
        2,
        _STATEMENT,
        "        **published,\n",
        "",
        f"{_STATEMENT_TESTS}::test_the_ehr_knows_its_authorization_server_better",
    ),
    Mutation(
        3,
        _STATEMENT,
        '"fhirVersion": "4.0.1"',
        '"fhirVersion": "4.0.0"',
        f"{_SEARCH_TESTS}::test_an_app_finds_us_through_the_ehr",
    ),
    Mutation(
        10,
        "tokens/jwt_validation.py",
        'if claims.get("iss") != issuer:',
        "if False:",
        "tests/tokens/test_jwt_validation.py::test_bad_tokens",
    ),
    Mutation(
        10,
        "tokens/introspection.py",
        "return token_of(claims, await",
        'return token_of({**claims, "active": True}, await',
        f"{_SEARCH_TESTS}::test_tokens_that_are_none",
    ),
    Mutation(
        10,
        "tokens/cache.py",
        "return self._clock() >= answer.token.expires_at",
        "return False",
        "tests/web/test_failures.py::test_an_expired_token_is_not_served_from_the_cache",
    ),
    Mutation(
        10,
        "tokens/claims.py",
        "if expected.audience and not",
        "if False and not",
        "tests/attacks/test_token_forms.py::test_a_token_that_is_no_good_here",
    ),
    Mutation(
        11,
        "access/scopes.py",
        "return self.search if is_search else self.read",
        "return self.search or self.read",
        f"{_SEARCH_TESTS}::test_scopes",
    ),
    Mutation(
        11,
        "access/visibility.py",
        "if path.constraint is not None and path.constraint not in study.satisfies:",
        "if False:",
        "tests/journey/test_permissions.py::test_a_constrained_scope",
    ),
    Mutation(
        12,
        _DECISION,
        _OTHER_PATIENT,
        "(False, Reason.OTHER_PATIENT)",
        "tests/journey/test_retrieve.py::test_another_patients_root_is_refused",
    ),
    Mutation(
        13,
        _DECISION,
        "(patient not in given.patients, ",
        "(False, ",
        "tests/access/test_grant_paths.py::test_who_has_no_path",
    ),
    Mutation(
        13,
        _DECISION,
        "GrantPath(grant.constraint, given.studies, rules,",
        "GrantPath(grant.constraint, {}, rules,",
        "tests/journey/test_permissions.py::test_a_backend_client",
    ),
    Mutation(
        13,
        "authorization/patient_authorizer.py",
        "if decision == Deny(Reason.NOT_THE_CLIENTS_PATIENT):",
        "if False:",
        "tests/web/test_backend_reads.py::test_all_else_is_as_if_it_were_not_there",
    ),
    Mutation(
        14,
        _DECISION,
        "contexts = {ScopeContext.PATIENT} |",
        "contexts = {ScopeContext.PATIENT, ScopeContext.SYSTEM} |",
        f"{_SEARCH_TESTS}::test_scopes",
    ),
    Mutation(
        15,
        _DECISION,
        "if grant.covers(interaction is Interaction.SEARCH)]",
        "if any(one.covers(interaction is Interaction.SEARCH) for one in token.grants)]",
        "tests/access/test_combined_grants.py::test_together_grants_show_what_one_of_them_shows",
    ),
    Mutation(
        16,
        "tokens/introspection.py",
        "            raise _unavailable(failure.reason).because(failure.detail) from None",
        "            return None",
        "tests/web/test_failures.py::test_a_failing_introspection_is_503",
    ),
    Mutation(
        17,
        "patients/ehr_lookup.py",
        "        return frozenset(identifiers)",
        "        return frozenset()",
        f"{_SEARCH_TESTS}::test_all_studies_of_a_patient",
    ),
    Mutation(
        20,
        "fhir/search_parameters.py",
        'alternative.removeprefix(site.ehr_fhir_url + "/")',
        "alternative",
        f"{_SEARCH_TESTS}::test_the_patient_may_be_written_in_any_way",
    ),
    Mutation(
        21,
        "fhir/search_parameters.py",
        "        getattr(search, into).append(filters)\n",
        "        filters = ()\n",
        f"{_SEARCH_TESTS}::test_dates",
    ),
    Mutation(
        22,
        "access/reasons.py",
        "Reason.OTHER_PATIENT: 403",
        "Reason.OTHER_PATIENT: 404",
        f"{_SEARCH_TESTS}::test_another_patient_is_403",
    ),
    Mutation(
        23,
        "pacs/deferred_requests.py",
        "retry_after=max(1, round(self._patience_seconds)),",
        "retry_after=None,",
        "tests/web/test_freshness.py::test_a_slow_search_goes_on_and_the_retry_gets_it",
    ),
    Mutation(
        24,
        "fhir/bundle.py",
        '"type": "searchset"',
        '"type": "collection"',
        f"{_SEARCH_TESTS}::test_all_studies_of_a_patient",
    ),
    Mutation(
        25,
        "common/loading_cache.py",
        "return await self._flight.run((key, is_dated, stamp), fill)",
        "return await fill()",
        "tests/web/test_failures.py::test_simultaneous_requests_cause_one_introspection",
    ),
    Mutation(
        25,
        "common/loading_cache.py",
        "if patient_ids is None or isinstance(self._forget_on, ForgetOn):",
        "if False:",
        "tests/web/test_freshness.py::test_what_is_remembered_is_forgotten_on_demand",
    ),
    Mutation(
        30,
        "fhir/imaging_study.py",
        "return None if found is None else max(found, min(listed, _LARGEST))",
        "return None",
        f"{_SEARCH_TESTS}::test_series_and_counts_are_the_archives",
    ),
    Mutation(
        31,
        "fhir/endpoint.py",
        "if self.requires_access_token else ()",
        "",
        "tests/fhir/test_endpoint.py"
        "::test_requires_access_token_is_there_only_when_it_is_asked_for",
    ),
    Mutation(
        31,
        "fhir/endpoint.py",
        '            "address": address,\n',
        '            "address": address + "/studies",\n',
        f"{_SEARCH_TESTS}::test_read_of_study_and_endpoint",
    ),
    Mutation(
        32,
        "fhir/endpoint.py",
        "/{OPERATION}",
        "/{OPERATION}/",
        f"{_SEARCH_TESTS}::test_all_studies_of_a_patient",
    ),
    Mutation(
        33,
        "web/fhir_handlers.py",
        "            for address in issued.values()\n",
        "            for address in (issued.values() if search.result.include_endpoint else ())\n",
        f"{_CAPABILITY_TESTS}::test_its_endpoint_is_on_the_page_of_its_study",
    ),
    Mutation(
        33,
        "web/fhir_handlers.py",
        "            for address in issued.values()\n",
        "            for address in list(issued.values())[:1]\n",
        f"{_CAPABILITY_TESTS}::test_each_page_has_the_endpoints_of_its_studies",
    ),
    Mutation(
        39,
        "authorization/patient_authorizer.py",
        "            raise self.decisions.denied(record, Deny(Reason.MISSING_TOKEN))",
        '            bearer = "a-recognizable-token"',
        "tests/web/test_routes.py::test_what_is_protected_needs_one_and_works_with_it",
    ),
    Mutation(
        39,
        "authorization/patient_authorizer.py",
        "        token = await self.token(record, authorization)\n        opened",
        '        token = await self._tokens.validate("a-recognizable-token")\n        opened',
        f"{_CAPABILITY_TESTS}::test_an_address_works_with_its_token_alone",
    ),
    Mutation(
        40,
        "dicomweb/multipart.py",
        "        self._release(data, position, read)\n",
        "        self._release(data, position, max(position, read - 1))\n",
        "tests/journey/test_retrieve.py::test_every_instance_is_byte_identical",
    ),
    Mutation(
        41,
        "dicomweb/upstream_accept.py",
        "    if kind is Kind.RENDERED and not frame_count:",
        "    if False:",
        "tests/dicomweb/test_accept.py::test_what_the_pacs_is_asked_for",
    ),
    Mutation(
        42,
        _DECISION,
        "    return None if all(own) else Deny(",
        "    return None if True else Deny(",
        "tests/journey/test_retrieve.py::test_foreign_uids_are_refused_in_every_form",
    ),
    Mutation(
        42,
        "dicomweb/instance_check.py",
        "        if refusal is not None:",
        "        if False:",
        "tests/web/test_verification.py::test_a_foreign_instance_in_an_own_study",
    ),
    Mutation(
        42,
        "common/connector.py",
        "            if _is_quiet(connection):",
        "            if True:",
        "tests/common/test_connector.py::test_what_nobody_asked_for_is_nobodys_answer",
    ),
    Mutation(
        43,
        "dicomweb/multipart.py",
        'raise Malformed("truncated")',
        'return b"--"',
        "tests/dicomweb/test_multipart.py::test_a_body_that_is_cut_anywhere_never_ends_well",
    ),
    Mutation(
        43,
        "web/stream_body.py",
        'raise TransferBroken("broken") from None',
        "return []",
        "tests/web/test_stream.py::test_a_broken_answer_never_looks_whole",
    ),
    Mutation(
        44,
        "pacs/deferred_requests.py",
        "own is not None and not self._defer(key, own)",
        "own is not None",
        "tests/web/test_slow_archive.py::test_the_first_request_warms_and_the_retry_is_served",
    ),
    Mutation(
        45,
        "access/reasons.py",
        "Reason.FOREIGN: 404",
        "Reason.FOREIGN: 403",
        "tests/journey/test_retrieve.py::test_foreign_uids_are_refused_in_every_form",
    ),
    Mutation(
        45,
        "pacs/ownership.py",
        "part_found = is_own and await",
        "part_found = await",
        "tests/pacs/test_ownership.py::test_a_foreign_study_costs_what_an_absent_one_costs",
    ),
    Mutation(
        50,
        _DECISION,
        "        return Deny(Reason.OTHER_TOKEN)",
        "        pass",
        f"{_CAPABILITY_TESTS}::test_an_address_works_with_its_token_alone",
    ),
    Mutation(
        51,
        _DECISION,
        "    if study not in (None, capability.study):\n        return Deny(Reason.ABSENT)\n",
        "",
        f"{_CAPABILITY_TESTS}::test_it_is_for_nothing_else",
    ),
    Mutation(
        51,
        "authorization/capability_urls.py",
        '            if urlsafe_b64encode(sealed).rstrip(b"=").decode() != encoded:',
        "            if False:",
        "tests/authorization/test_capability_seal.py::test_no_character_can_be_changed",
    ),
    Mutation(
        52,
        _DECISION,
        "        return Deny(Reason.EXPIRED_CAPABILITY)",
        "        pass",
        f"{_CAPABILITY_TESTS}::test_it_ends",
    ),
    Mutation(
        52,
        "authorization/capability_urls.py",
        "min(self._clock() + self._lifetime_seconds, token_expires_at)",
        "self._clock() + self._lifetime_seconds",
        f"{_CAPABILITY_TESTS}::test_it_ends_no_later_than_its_token",
    ),
    Mutation(
        52,
        "authorization/authorizer.py",
        "        if isinstance(permit, Deny):\n            return {}\n",
        "        if isinstance(permit, Deny):\n            permit = request.permit\n",
        f"{_CAPABILITY_TESTS}::test_who_may_search_only_gets_no_address",
    ),
    Mutation(
        52,
        "access/reasons.py",
        "Reason.UNKNOWN_CAPABILITY: 403",
        "Reason.UNKNOWN_CAPABILITY: 404",
        f"{_CAPABILITY_TESTS}::test_all_are_revoked_by_taking_the_key_away",
    ),
    Mutation(
        53,
        "authorization/patient_authorizer.py",
        "permit = await self.permit(record, token, Interaction.RETRIEVE, opened.patient)",
        "permit = await self.permit(record, token, Interaction.RETRIEVE)",
        f"{_CAPABILITY_TESTS}::test_what_the_token_may_do_now_is_what_counts",
    ),
    Mutation(
        54,
        "web/middleware.py",
        '        "Referrer-Policy": "no-referrer",\n',
        "",
        f"{_CAPABILITY_TESTS}::test_an_address_works_with_its_token_alone",
    ),
    Mutation(
        54,
        "web/dicomweb_handlers.py",
        'record.searches(f"/{PREFIX}/{resource.level}", asked.parameters)',
        "record.searches(request.path, asked.parameters)",
        f"{_CAPABILITY_TESTS}::test_the_trail_names_the_token_and_not_the_address",
    ),
    Mutation(
        55,
        "authorization/authorizer.py",
        "self.capabilities.issue(bearer, token.expires_at, patient, uid)",
        'self.capabilities.issue("another", token.expires_at, patient, uid)',
        f"{_CAPABILITY_TESTS}::test_after_a_refusal_a_new_search_brings_an_address_that_works",
    ),
    Mutation(
        60,
        "web/middleware.py",
        "            audit.answered(record, response.status, late=response.prepared)",
        "            pass",
        "tests/web/test_audit.py",
    ),
]
