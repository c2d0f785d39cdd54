"""Configurations as engineers write them, and what each section may have."""

SECRET = "Zq7-hunter2-Xw"
MINIMUM = """
ehr: {fhir_url: "http://ehr.example.org/fhir"}
tokens: {client: {method: none}}
pacs: {url: "http://pacs.example.org/dicom-web"}
"""
SECTIONS = [
    ("tokens.client", {"method": "client_secret_post", "client_id": "us"}, "client_secret"),
    ("tokens.client", {"method": "bearer"}, "token"),
    ("patients.client", {"method": "bearer"}, "token"),
    ("pacs.auth", {"method": "basic", "username": "us"}, "password"),
]
