"""What `make release` makes: see docs/release.md."""
