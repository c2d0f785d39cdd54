"""FHIR Patient -> the identifiers by which the PACS knows that patient."""
